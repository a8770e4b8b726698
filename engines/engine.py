"""What an engine's file is made of. It declares one :class:`Engine`; everything here is data, nothing starts anything."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from loadgen.models.model import Model
from loadgen.wire.dialect import Dialect

Command = Sequence[str]
"""One process. ``{python}`` stands for the interpreter of the engine's environment."""

Split = Literal["tensor", "layers"]
"""How a model is spread over GPUs: all of them work at each layer, or one after the other."""

RandomWeights = Literal["safetensors", "gguf", "config", "none"]
"""What an engine takes for a model of random weights: files of ours in one of two formats; configuration and tokenizer
alone, with weights that it makes up itself; or nothing, as it has no weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """One start of an engine: what its command is made from."""

    model: Model
    source: str
    """What to load: Hub id, or a path; inside a container the path there."""
    is_random: bool
    """Whether the weights are random."""
    port: int
    """To listen on, on loopback; inside a container the image's own port."""
    host: str
    gpus: tuple[int, ...]
    """Indices of the GPUs it may use, as the system counts them; empty on a machine without."""
    context: int
    """Tokens of one conversation, prompt and answer."""
    options: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    """What ``matrix.toml`` says beside, for this engine's own use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """A virtual environment of the engine's own."""

    requirements: tuple[str, ...] = ()
    """Pinned. Empty: the engine runs in this project's own environment."""
    size_gb: float = 0.0
    """On disk, about."""
    uninstall: tuple[str, ...] = ()
    """Packages that the requirements bring and that break it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """An image, with its tag."""

    image: str
    port: int
    """The one that it listens on inside."""
    arguments: tuple[str, ...] = ()
    """Further ones of ``docker run``."""
    needs_gpu: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One way to start an engine."""

    runs_in: Environment | Container
    commands: Callable[[Start], Sequence[Command]]
    """Its processes in the order of their start. In a container there is one, without the image."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Environment variables."""
    random_weights: RandomWeights = "safetensors"
    split: Split | None = "tensor"
    """How it uses two GPUs; None if it cannot."""
    startup_s: float = 60.0
    """What a start takes, about, once everything is on the disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """Its own metrics: route, and the names that it has for what we know. Each of several names may be absent."""

    path: str = "/metrics"
    prompt_tokens: str | None = None
    output_tokens: str | None = None
    requests: str | None = None
    running: str | None = None
    waiting: str | None = None
    prefix_hits: str | None = None
    prefix_queries: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """What is particular to an engine."""

    name: str
    """As ``--engine`` and ``matrix.toml`` have it."""
    title: str
    """As tables have it, with its version where we start it."""
    dialect: Dialect
    launches: Sequence[Launch] = ()
    """Ways to start it, the preferred one first; none: it runs somewhere already."""
    health: str | None = "/health"
    """Route that answers 200 when it is up; None where there is none, and the first generation has to tell."""
    tells: tuple[str, ...] = ()
    """Routes at which a running engine tells its version and flags."""
    metrics: Metrics | None = None
    serves: Callable[[Start], str] = lambda start: start.model.name
    """Name by which requests have to ask for the model."""
    refuses: Callable[[Model], str | None] = lambda _: None
    """Tells why it cannot serve a model, if so."""
    accepts: frozenset[str] = frozenset()
    """Of ``ignore_eos``, ``min_tokens``, ``stream_options``: fields of a request that it does not refuse."""
    notes: tuple[str, ...] = ()
    """What a reader of its figures has to know: how it counts, defaults that were overridden."""
