"""What a matrix is made of: which engines, which models, and how they are measured."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import msgspec

from loadgen.engines.catalogue import find_engine
from loadgen.engines.engine import Engine
from loadgen.errors import ConfigFileError, EngineError
from loadgen.launch.models import model_named, of_folder
from loadgen.launch.order import DEADLINE_S, context_for
from loadgen.models.model import Model
from loadgen.models.shape import Dtype, Shape
from loadgen.models.table import MODELS
from loadgen.models.template import template_path

Part = Literal["speed", "throughput"]


class ThroughputConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How requests/min are measured: ``locustfiles/sweep.py``'s options."""

    steps: str = "auto"
    step_time: float = 60.0
    """s."""
    precision: str = "2%"
    slo: str | None = None
    max_tokens: int | None = None
    """None: as for speed."""


class EngineConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A column."""

    engine: str | None = None
    """Name or file; None: the column's own name is one."""
    title: str | None = None
    """At the head of the column; None: the engine's."""
    runs_in: Literal["container", "environment"] | None = None
    options: dict[str, str | int | float | bool] = {}
    gpus: list[int] | None = None
    host: str | None = None
    """Of an engine that runs already."""
    model: str | None = None
    """What it calls the model there."""
    key: str | None = None
    """Environment variable that has its API key; None: OPENAI_API_KEY."""
    endpoint: str | None = None
    header: list[str] = []
    auth: str | None = None
    extra_body: dict[str, Any] = {}
    system_prompt: str | None = None
    max_tokens_field: str | None = None
    proxy: str | None = None
    """As the options of these names."""
    reference: str | None = None
    """Engine of the specification whose figures stand beside; None: its own, if it has any."""
    throughput: dict[str, Any] = {}
    """What is different from ``[throughput]`` for it."""


_REQUEST_OPTIONS = ("endpoint", "auth", "system_prompt", "max_tokens_field", "proxy")


def request_options(said: EngineConfig) -> dict[str, object]:
    """Return the options of the scenario, by field, that shape the requests of this column alone."""
    options: dict[str, object] = {
        name: value for name in _REQUEST_OPTIONS if (value := getattr(said, name)) is not None
    }
    if said.header:
        options["header"] = tuple(said.header)
    if said.extra_body:
        options["extra_body"] = msgspec.json.encode(said.extra_body).decode()
    return options


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A row. What is not given is as in the table of models, where it has that name."""

    source: str | None = None
    """Hub id or folder."""
    gguf: str | None = None
    """The same as a GGUF file."""
    dtype: Dtype | None = None
    template: str | None = None
    context: int | None = None
    shape: dict[str, int | str | bool] | None = None


class PlanFor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A machine."""

    gpu: str
    """Name, as the driver has it."""
    count: int
    memory_gib: float
    """Of each."""

    @property
    def text(self) -> str:
        """As in ``2 x NVIDIA A100-SXM4-80GB``."""
        return f"{self.count} x {self.gpu}"


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file."""

    engines: list[str]
    models: list[str]
    engine: dict[str, EngineConfig] = {}
    model: dict[str, ModelConfig] = {}
    measure: tuple[Part, ...] = ("speed", "throughput")
    dataset: str = "lima"
    sample: int = 100
    seed: int = 42
    max_tokens: int = 512
    ignore_eos: bool = False
    """Whether no answer ends before ``max_tokens``; engines that cannot be asked for that are left out."""
    temperature: float = 0.0
    warmup: int = 5
    weights: Literal["trained", "random"] = "trained"
    context: int | None = None
    """Tokens of one conversation; None: what the model has, up to 2,048."""
    gpus: list[int] | None = None
    """Those that may be used; None: all."""
    plan_for: PlanFor | None = None
    """Machine that ``--dry-run`` plans for where this one has no GPU."""
    repeats: int = 1
    startup_deadline: float = DEADLINE_S
    """s."""
    throughput: ThroughputConfig = ThroughputConfig()


def engine_of(config: Config, column: str, name: str = "matrix.toml") -> tuple[Engine, EngineConfig]:
    """Return the engine of a column and its table in the file; raises ConfigFileError if there is no such engine."""
    said = config.engine.get(column, EngineConfig())
    try:
        return find_engine(said.engine or column), said
    except (ConfigFileError, EngineError) as error:
        raise ConfigFileError(f"{name}, engine {column!r}: {error}") from None


def throughput_of(config: Config, column: str) -> ThroughputConfig:
    """Return how the throughput of a column is measured."""
    own = config.engine.get(column, EngineConfig()).throughput
    return msgspec.convert(msgspec.to_builtins(config.throughput) | own, ThroughputConfig)


def model_of(config: Config, row: str, name: str = "matrix.toml") -> Model:
    """Return the model of a row; raises ConfigFileError if it is unknown, or if its table in the file is not valid."""
    said, where = config.model.get(row), f"{name}, model {row!r}"
    if said is not None and said.template is not None and not (path := template_path(said.template)).is_file():
        raise ConfigFileError(f"{where}: there is no template {said.template!r} in {path.parent}.")
    try:
        if said is None:
            return model_named(row)
        known = model_named(row) if row in MODELS else Model(name=row)
        given = {
            key: value for key in ("source", "gguf", "dtype", "template") if (value := getattr(said, key)) is not None
        }
        model = replace(known, **given)
        if said.source is not None and Path(said.source).expanduser().is_dir():
            model = replace(of_folder(model, Path(said.source).expanduser()), **given)
        if said.shape is not None:
            model = replace(model, shape=msgspec.convert(said.shape, Shape))
    except (EngineError, msgspec.ValidationError) as error:
        raise ConfigFileError(f"{where}: {error}") from None
    return model


def context_of(config: Config, row: str, model: Model) -> int:
    """Return for how long a conversation an engine is started, tokens."""
    said = config.model.get(row)
    return context_for(model, (said and said.context) or config.context)
