"""The types that an engine's file is made of. It declares one :class:`Engine`: data, from which it is started."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from loadgen.models.model import Model
from loadgen.protocol.api import Api

Command = Sequence[str]
"""One process. ``{bin}`` stands for the folder of the programs of the engine's environment."""

Options = Mapping[str, str | int | float | bool]
"""Options of this engine alone, from ``matrix.toml`` or ``--option``."""

Split = Literal["tensor", "layers"]
"""How a model is spread over GPUs: all of them work at each layer, or one after the other."""

WeightFormat = Literal["safetensors", "gguf", "none"]
"""What a model is loaded from: a folder as the Hub has it, one file, or nothing, as the engine has no weights."""


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
    more_ports: tuple[int, ...]
    """Two further ones that nobody has, for engines of several processes."""
    gpus: tuple[int, ...]
    """Indices of the GPUs it may use, as the system counts them; empty on a machine without."""
    context: int
    """Tokens of one conversation, prompt and answer."""
    options: Options = field(default_factory=dict)


FixedLengthFields = Callable[[int], Mapping[str, Any]]
"""Returns the fields of a request that make its answer exactly that many tokens long."""


def ignore_eos(_max_tokens: int) -> Mapping[str, Any]:
    """Return the field that most engines know: the end-of-sequence token does not end an answer."""
    return {"ignore_eos": True}


def _by_name(start: Start) -> str:
    return start.model.name


def _one(_options: Options) -> int:
    return 1


def _nothing(_model: Model, _options: Options) -> str | None:
    return None


_SPELT = {"llama": "Llama", "falcon": "Falcon", "mpt": "MPT"}


def knows_no(*architectures: str, why: str) -> Callable[[Model, Options], str | None]:
    """Return the reason not to serve models of these architectures; ``{}`` stands for the architecture."""

    def reason(model: Model, _options: Options) -> str | None:
        architecture = None if model.shape is None else model.shape.architecture
        return why.format(_SPELT[architecture]) if architecture in architectures and architecture else None

    return reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """A virtual environment of the engine's own."""

    requirements: tuple[str, ...] = ()
    """Pinned. Empty: the engine runs in this project's own environment."""
    size_gb: float = 0.0
    """On disk, about."""
    uninstall: tuple[str, ...] = ()
    """Packages that the requirements bring and that break it."""
    built_on: tuple[str, ...] = ()
    """Pinned. Installed first, for requirements that are compiled against them."""
    programs: tuple[str, ...] = ()
    """What has to be on the machine for its installation, as a compiler."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """An image, with its tag."""

    image: str
    port: int
    """The one that it listens on inside."""
    arguments: tuple[str, ...] = ()
    """Further ones of ``docker run``."""
    shared_memory_gb: int = 1
    """Largest ``/dev/shm``: processes of one engine on several GPUs exchange tensors through it."""
    writes: bool = False
    """Whether it writes next to the weights: it converts other formats to safetensors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One way to start an engine."""

    runs_in: Environment | Container
    commands: Callable[[Start], Sequence[Command]]
    """Its processes in the order of their start. In a container there is one, without the image."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Environment variables."""
    uses_gpu: bool = True
    """Whether it can; else it runs on the CPU wherever it is."""
    needs_gpu: bool = False
    """Whether it runs nowhere else."""
    weight_format: WeightFormat = "safetensors"
    supports_dummy_weights: bool = False
    """Whether it makes up random weights itself, and needs but configuration and tokenizer."""
    title: str | None = None
    """As tables have it, where this is another version than the engine's other ways."""
    needs_sigkill: bool = False
    """Whether its processes do not end when they are asked to."""
    split: Split | None = "tensor"
    """How it uses two GPUs; None if it cannot."""
    startup_s: float = 60.0
    """What a start takes, about, once everything is on the disk."""


Names = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """Its metrics: the route, and the names that each of ours has or had there; no name: the engine exposes none."""

    path: str = "/metrics"
    prompt_tokens: Names = ()
    output_tokens: Names = ()
    requests: Names = ()
    """Requests that have ended, whatever became of them."""
    running: Names = ()
    waiting: Names = ()
    prefix_hits: Names = ()
    """Prompt tokens that were found in the prefix cache."""
    prefix_queries: Names = ()
    """Prompt tokens that were looked for in it."""
    kv_cache: Names = ()
    """Share of the KV cache that is in use, 0 to 1."""

    @property
    def counters(self) -> dict[str, Names]:
        """What is read before and after a run, by our names."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in {"path", "kv_cache"}}

    @property
    def load(self) -> dict[str, Names]:
        """What is read during a run and summed over label sets, by our names."""
        return {"running": self.running, "waiting": self.waiting}

    @property
    def load_shares(self) -> dict[str, Names]:
        """What is read during a run and is a share, by our names."""
        return {"kv_cache": self.kv_cache}


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """What is particular to an engine."""

    name: str
    """Name in ``--engine`` and ``matrix.toml``."""
    title: str
    """Title in tables; with its version, where it is started from here."""
    apis: tuple[Api, ...]
    """APIs that it serves. Requests use the first."""
    launches: Sequence[Launch] = ()
    """Ways to start it, the preferred one first; empty: it is already running somewhere."""
    health: str | None = "/health"
    """Route that answers 200 when it is up; None: it has none, and is up once it generates something."""
    info_routes: tuple[str, ...] = ()
    """Routes at which a running engine reports its version and flags."""
    metrics: Metrics | None = None
    served_model_name: Callable[[Start], str] = _by_name
    """Returns the model name that requests must use."""
    unsupported_reason: Callable[[Model, Options], str | None] = _nothing
    """Returns why it cannot serve a model, None if it can."""
    applies_chat_template: bool = True
    """Whether it applies the chat template; if not, the client does, and sends the text."""
    handles_stop_tokens: bool = False
    """Whether it stops at the template's stop strings by itself; if not, the client sends them."""
    reports_stream_usage: bool = True
    """Whether it reports the output tokens of streamed answers."""
    fixed_length_fields: FixedLengthFields | None = None
    """Returns the fields that make an answer as long as ``max_tokens``; None: it has no such fields."""
    template_source: str | None = None
    """Source of its chat templates, if that is not the model's files."""
    options: tuple[str, ...] = ()
    """Names of its options."""
    reserved_sequences: Callable[[Options], int] = _one
    """Returns for how many sequences it reserves KV cache when it starts; 1 for engines that take all free memory."""
    notes: tuple[str, ...] = ()
    """What readers of its figures must know: how it counts, defaults that were overridden."""
    file: str | None = None
    """File it was read from, if it is a user's own engine."""

    def __post_init__(self) -> None:
        apis: object = self.apis  # an engine file of a user may hold anything
        if not isinstance(apis, tuple) or not apis:
            raise ValueError("apis must be a tuple of at least one API")
        for route in (self.health, *self.info_routes):
            if route is not None and not route.startswith("/"):
                raise ValueError(f"a route begins with a slash: {route!r}")

    @property
    def api(self) -> Api:
        """The API that requests use."""
        return self.apis[0]

    @property
    def spec(self) -> str:
        """File or name by which it is found again."""
        return self.file or self.name
