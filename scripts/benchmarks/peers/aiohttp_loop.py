"""A loop around aiohttp that reads and stamps in the manner of ``vllm bench serve``."""

from functools import partial

from benchmarks.peers import loop
from benchmarks.peers.peer import Peer

VERSION = "3.14.5"

PEER = Peer(
    name="aiohttp",
    version=VERSION,
    requirements=(f"aiohttp=={VERSION}",),
    command=partial(loop.command, "aiohttp_loop.py"),
    read=loop.read,
)
