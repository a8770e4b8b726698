"""The embedded engine: a real one, so that a newcomer without a GPU sees the instrument work."""

import importlib.util

from loadgen.errors import EngineError
from loadgen.launch.child import ChildServer
from loadgen.launch.llamacpp_server import ALIAS
from loadgen.launch.weights.random_model import random_model
from loadgen.models.model import Model
from loadgen.models.shape import Shape

ENGINE = "llamacpp"
"""Its name among the engines."""

LABEL = "embedded engine, random weights"
"""Said in every output of a run on it."""

MODEL = ALIAS
SHAPED = Model(
    name=MODEL,
    shape=Shape(
        num_hidden_layers=6,
        hidden_size=256,
        num_attention_heads=8,
        num_key_value_heads=2,
        intermediate_size=704,
        vocab_size=2048,
        context=8192,
    ),
    dtype="float32",
)
"""6 M parameters: some 2 ms a token on one core."""

SLOTS = 8
CONTEXT = 4096


def start_embedded() -> ChildServer:
    """Start llama.cpp's server with a small model of random weights; raises EngineError if it cannot run here."""
    way_out = "Name a server instead: --host http://HOST:PORT --model NAME."
    if importlib.util.find_spec("xllamacpp") is None:
        raise EngineError(f"the embedded engine needs xllamacpp, which has no wheel for this platform. {way_out}")
    try:
        model = random_model(SHAPED, "gguf")
        return ChildServer("loadgen.launch.llamacpp_server", [str(model), str(SLOTS), str(CONTEXT)])
    except ChildProcessError as error:
        raise EngineError(f"the embedded engine did not start ({error}). {way_out}") from None
