"""Reads and checks ``matrix.toml``. The error for a mistake names its key and the nearest valid one."""

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from loadgen.errors import ConfigFileError, OptionError
from loadgen.launch.options import check_options
from loadgen.matrix.config import (
    Config,
    EngineConfig,
    ModelConfig,
    PlanFor,
    ThroughputConfig,
    engine_of,
    model_of,
    request_options,
    throughput_of,
)
from loadgen.models.shape import Shape
from loadgen.scenario import SHORTEST_STEP_S, resolve
from loadgen.slo import parse_slo
from loadgen.steps import parse_precision, parse_steps
from loadgen.wire.target import parse_target

_MOST_GPUS, _MOST_GIB = 64, 100_000


def specification() -> str:
    """Return the text of the matrix of the specification."""
    return (files("loadgen.matrix") / "specification.toml").read_text()


def read(path: Path | None) -> tuple[Config, str]:
    """Read a file, or the matrix of the specification if ``path`` is None; return the configuration and its text.

    Raises ConfigFileError if the file cannot be read or is not valid.
    """
    if path is None:
        text = specification()
        return parse(text, "the specification's matrix"), text
    try:
        text = path.read_text()
    except OSError as error:
        raise ConfigFileError(f"{path}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ConfigFileError(f"{path}: it is not a text file in UTF-8.") from None
    return parse(text, str(path), path.absolute().parent), text


def parse(text: str, name: str, base: Path = Path()) -> Config:
    """Read the text of a matrix; raises ConfigFileError, which names the key and the nearest valid one.

    ``base``: the folder that paths in it are relative to.
    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigFileError(f"{name}: {error}.") from None
    _check_keys(raw, name)
    try:
        msgspec.convert(raw, Config)
        config = msgspec.convert(_anchored(raw, base), Config)
    except msgspec.ValidationError as error:
        raise ConfigFileError(f"{name}: {error}.") from None
    check(config, name)
    return config


def check(config: Config, name: str) -> None:
    """Raise ConfigFileError if a value of a matrix is not valid; ``name`` is the file, or what else it came from."""
    _check_lists(config, name)
    _check_numbers(config, name)
    _check_machine(config, name)
    for column in config.engines:
        _check_column(config, column, name)
    for row in config.models:
        model_of(config, row, name)


def _check_lists(config: Config, name: str) -> None:
    for key in ("engines", "models", "measure"):
        named = getattr(config, key)
        if not named:
            raise ConfigFileError(f"{name}: {key} is empty.")
        if twice := [one for one in named if named.count(one) > 1]:
            raise ConfigFileError(f"{name}: {key} has {twice[0]!r} twice.")
    for table, listed in (("engine", config.engines), ("model", config.models)):
        for one in getattr(config, table):
            if one not in listed:
                raise ConfigFileError(f"{name}: [{table}.{one}] is not in {table}s{_meant(one, listed)}")


def _check_numbers(config: Config, name: str) -> None:
    for key in ("sample", "max_tokens", "repeats"):
        if getattr(config, key) < 1:
            raise ConfigFileError(f"{name}: {key} must be at least 1.")
    for key in ("warmup", "temperature"):
        if not 0 <= getattr(config, key) < float("inf"):
            raise ConfigFileError(f"{name}: {key} must be 0 or more.")
    if not 0 < config.startup_deadline < float("inf"):
        raise ConfigFileError(f"{name}: startup_deadline must be above 0.")
    for context in (config.context, *(said.context for said in config.model.values())):
        if context is not None and context <= config.max_tokens:
            raise ConfigFileError(
                f"{name}: context must be more than max_tokens, {config.max_tokens}: it has the prompt, too."
            )


def _check_machine(config: Config, name: str) -> None:
    machine = config.plan_for
    if machine is None or (machine.gpu and 1 <= machine.count <= _MOST_GPUS and 0 < machine.memory_gib <= _MOST_GIB):
        return
    raise ConfigFileError(
        f"{name}, [plan_for]: gpu must be a name, count at least 1 and at most {_MOST_GPUS}, memory_gib above 0 and at "
        f"most {_MOST_GIB:,}."
    )


def _check_host(host: str, where: str) -> None:
    shown = "" if "@" in host else f" {host!r}"  # there may be a password before the @
    with ConfigFileError.naming(f"{where}: host{shown}:"):
        parse_target(host)


def _check_column(config: Config, column: str, name: str) -> None:
    where = f"{name}, engine {column!r}"
    engine, said = engine_of(config, column, name)
    with ConfigFileError.naming(f"{where}:"):
        check_options(engine, said.options)
    try:
        throughput = throughput_of(config, column)
    except msgspec.ValidationError as error:
        raise ConfigFileError(f"{where}: {error}") from None
    _check_throughput(throughput, f"{where}: throughput:")
    _check_request(said, where)
    if said.host is not None:
        _check_host(said.host, where)
    if not engine.launches and said.host is None:
        raise ConfigFileError(f"{where}: it is not started from here: say at which host it runs.")
    if said.key is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", said.key):
        raise ConfigFileError(
            f"{where}: key is the name of an environment variable that has the key, not the key itself."
        )
    if said.key is not None and not os.environ.get(said.key):
        raise ConfigFileError(f"{where}: the environment variable {said.key}, which key names, is not set.")


def _check_request(said: EngineConfig, where: str) -> None:
    """Raise ConfigFileError for a key whose value the option of its name does not take."""
    try:
        resolve(request_options(said))
    except OptionError as error:
        raise ConfigFileError(f"{where}: {error}") from None


def _check_throughput(throughput: ThroughputConfig, where: str) -> None:
    with ConfigFileError.naming(f"{where} steps {throughput.steps!r}:"):
        parse_steps(throughput.steps)
    with ConfigFileError.naming(f"{where} precision"):
        parse_precision(throughput.precision)
    if not SHORTEST_STEP_S <= throughput.step_time < float("inf"):
        raise ConfigFileError(f"{where} step_time must be at least {SHORTEST_STEP_S:g} s.")
    if throughput.slo is not None:
        with ConfigFileError.naming(f"{where} slo:"):
            parse_slo(throughput.slo)


def _anchored(raw: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """Return what was read with its paths made absolute, and an engine that is named by its file called by its stem."""
    found = dict(raw)
    engines, tables = [], dict(raw.get("engine", {}))
    for one in raw["engines"]:
        path = one.endswith(".py")
        column = Path(one).stem if path else one
        said = dict(tables.get(column, {}))
        file = one if path else said.get("engine", "")
        if file.endswith(".py"):
            tables[column] = said | {"engine": str((base / Path(file).expanduser()).resolve())}
        engines.append(column)
    models = {name: _with_paths(said, base) for name, said in raw.get("model", {}).items()}
    if (base / raw.get("dataset", "")).is_file():
        found["dataset"] = str((base / raw["dataset"]).resolve())
    return found | {"engines": engines, "engine": tables, "model": models}


def _with_paths(said: Mapping[str, Any], base: Path) -> dict[str, Any]:
    paths = {key: base / Path(said[key]).expanduser() for key in ("source", "gguf") if key in said}
    return dict(said) | {key: str(path.resolve()) for key, path in paths.items() if path.exists()}


_SINGLE: Mapping[str, type[msgspec.Struct]] = {"throughput": ThroughputConfig, "plan_for": PlanFor}
_TABLES: Mapping[str, type[msgspec.Struct]] = {"engine": EngineConfig, "model": ModelConfig}


def _check_keys(raw: Mapping[str, Any], name: str) -> None:
    """Raise ConfigFileError for an unknown key, which may be a known one that is misspelt."""
    _check_against(raw, Config, name)
    for key, kind in _SINGLE.items():
        if isinstance(raw.get(key), dict):
            _check_against(raw[key], kind, f"{name}, [{key}]")
    for table, of in _TABLES.items():
        for one, said in (raw.get(table) or {}).items() if isinstance(raw.get(table), dict) else ():
            if isinstance(said, dict):
                _check_against(said, of, f"{name}, [{table}.{one}]")
                for key, inner in (("throughput", ThroughputConfig), ("shape", Shape)):
                    if isinstance(said.get(key), dict):
                        _check_against(said[key], inner, f"{name}, [{table}.{one}.{key}]")


def _check_against(said: Mapping[str, Any], of: type, where: str) -> None:
    known = [name for name in of.__annotations__ if not name.startswith("_")]
    for key in said:
        if key not in known:
            raise ConfigFileError(f"{where}: unknown key {key!r}{_meant(key, known)}")


def _meant(word: str, known: Iterable[str]) -> str:
    near = get_close_matches(word, known, 1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(known)}."
