"""The embedded engine: a real one, so that a newcomer without a GPU sees the instrument work."""

import importlib.util

from loadgen.errors import UsageError
from loadgen.launch.child import ChildServer
from loadgen.launch.embedded_server import ALIAS
from loadgen.launch.random_llama import cached_model

ENGINE = "llamacpp"
"""Its name among the dialects."""

LABEL = "embedded engine, random weights"
"""Said in every output of a run on it."""

MODEL = ALIAS
SLOTS = 8
CONTEXT = 4096


def start_embedded() -> ChildServer:
    """Start llama.cpp's server; raises UsageError where it cannot run."""
    way_out = "Name a server instead: --host http://HOST:PORT --model NAME."
    if importlib.util.find_spec("xllamacpp") is None:
        raise UsageError(f"the embedded engine needs xllamacpp, which has no wheel for this platform. {way_out}")
    try:
        return ChildServer("loadgen.launch.embedded_server", [str(cached_model()), str(SLOTS), str(CONTEXT)])
    except ChildProcessError as error:
        raise UsageError(f"the embedded engine did not start ({error}). {way_out}") from None
