"""A loop around the openai SDK, as in many a home-made benchmark."""

from functools import partial

from benchmarks.peers import loop
from benchmarks.peers.peer import Peer

VERSION = "3.54.0"

PEER = Peer(
    name="openai",
    version=VERSION,
    requirements=(f"openai=={VERSION}",),
    command=partial(loop.command, "openai_sdk.py"),
    read=loop.read,
)
