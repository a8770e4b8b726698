"""Engines by name. One of your own needs no place here: name its file instead, as in ``--engine ./my_engine.py``."""

import importlib.util
import re
from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from functools import cache
from pathlib import Path

from loadgen.engines import (
    endpoint,
    llamacpp,
    lmdeploy,
    ollama,
    sglang,
    tensorrt_llm,
    tgi,
    tgi_1_0_1,
    transformers_4_31_0,
    transformers_serve,
    vllm,
    vllm_0_1_3,
)
from loadgen.engines.engine import Engine
from loadgen.engines.simulated import engine as simulated
from loadgen.errors import ConfigFileError, EngineError

ENGINES: Mapping[str, Engine] = {
    engine.name: engine
    for engine in (
        endpoint.ENGINE,
        llamacpp.ENGINE,
        transformers_serve.ENGINE,
        transformers_4_31_0.ENGINE,
        vllm.ENGINE,
        vllm_0_1_3.ENGINE,
        tgi.ENGINE,
        tgi_1_0_1.ENGINE,
        sglang.ENGINE,
        tensorrt_llm.ENGINE,
        lmdeploy.ENGINE,
        ollama.ENGINE,
        simulated.ENGINE,
    )
}

RENAMED: Mapping[str, str] = {
    "dialect": "apis (a tuple)",
    "tells": "info_routes",
    "serves": "served_model_name",
    "refuses": "unsupported_reason",
    "renders": "applies_chat_template",
    "stops": "handles_stop_tokens",
    "templates": "template_source",
    "conversations": "reserved_sequences",
    "files": "weight_format",
    "kill": "needs_sigkill",
    "makes_weights": "supports_dummy_weights",
    "counts_streams": "reports_stream_usage",
    "whole_length": "fixed_length_fields",
}
"""Fields of ``Engine`` and ``Launch`` by their former names, for the error that an old engine file gets."""

CLASSES: Mapping[str, str] = {
    "OpenAIChat": "loadgen.protocol.chat.ChatApi",
    "Generate": "loadgen.protocol.tgi.TgiApi",
    "WholeLength": "loadgen.engines.engine.FixedLengthFields",
    "Files": "loadgen.engines.engine.WeightFormat",
}
"""Classes and types that engine files import, by their former names."""


def find_engine(name: str) -> Engine:
    """Return the engine of a name, or the one that a Python file declares.

    Raises EngineError for a name that is unknown, and ConfigFileError for a file that declares no engine.
    """
    if name.endswith(".py"):
        return _from_file(Path(name).absolute())
    if name in ENGINES:
        return ENGINES[name]
    near = get_close_matches(name, ENGINES, 1)
    meant = f"did you mean {near[0]!r}? " if near else ""
    raise EngineError(
        f"unknown engine {name!r}: {meant}There are {', '.join(sorted(ENGINES))}; one of your own is named by its "
        "file, ./NAME.py."
    )


@cache
def _from_file(path: Path) -> Engine:
    if not path.is_file():
        raise ConfigFileError(f"engine {path}: the file does not exist.")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # the author of the file has to fix it, whatever it is
        raise ConfigFileError(f"engine {path}: {_import_problem(error)}") from error
    engine = getattr(module, "ENGINE", None)
    if type(engine).__module__.startswith("engines."):  # a second copy, found in the current folder
        raise ConfigFileError(f"engine {path}: the package engines is now loadgen.engines; import Engine from there.")
    if not isinstance(engine, Engine):
        raise ConfigFileError(f"engine {path}: it must define ENGINE, an Engine of loadgen.engines.engine.")
    return replace(engine, file=str(path))


def _import_problem(error: BaseException) -> str:
    """Describe why an engine file cannot be imported; for one that uses former names, give the new ones."""
    if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] == "engines":
        return "the package engines is now loadgen.engines; import from there."
    name = re.search(r"cannot import name '(\w+)'", str(error))
    if name is not None and name[1] in CLASSES:
        return f"{name[1]} is now {CLASSES[name[1]]}."
    field = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    if field is not None and field[1] in RENAMED:
        names = ", ".join(f"{old} is now {new}" for old, new in RENAMED.items())
        return f"it uses {field[1]!r}, a former name: {names}."
    return f"it cannot be imported: {type(error).__name__}: {error}."
