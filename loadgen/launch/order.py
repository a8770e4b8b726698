"""What is to be started, and what that comes to: command lines, variables, and what is known of it afterwards."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from loadgen.engines.engine import Container, Engine, Options, Start
from loadgen.errors import EngineError
from loadgen.launch import containers, environments, readiness
from loadgen.launch.placement import Placement
from loadgen.launch.sources import Source
from loadgen.models.model import Model
from loadgen.results.launched import Launched

HOST = "127.0.0.1"
"""Engines that we start listen on loopback."""

DEADLINE_S = 1800.0
"""So long a start may take, once everything is on the disk."""


CONTEXT = 2048
"""Tokens of one conversation, where nobody says more: enough for LIMA's prompts and their answers."""

Ports = tuple[int, int, int]
"""The one at which an engine is reached, and two more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be started."""

    engine: Engine
    model: Model
    is_random: bool
    placement: Placement
    context: int
    port: int | None = None
    """None: a free one."""
    options: Options = field(default_factory=dict)
    deadline_s: float = DEADLINE_S

    @property
    def title(self) -> str:
        """The engine's, with the version that is started."""
        return self.placement.launch.title or self.engine.title

    @property
    def tokens(self) -> int:
        """What its KV cache has to hold."""
        return self.context * self.engine.reserved_sequences(self.options)


def context_for(model: Model, wanted: int | None) -> int:
    """Return for how long a conversation an engine is started, tokens: what is wanted, or the model's up to a limit."""
    return wanted or min(CONTEXT, model.shape.context if model.shape else CONTEXT)


def commands(order: Order, source: Source, ports: Ports, engine_id: str) -> list[list[str]]:
    """Return the command lines of an order's processes, complete."""
    launch = order.placement.launch
    try:
        inner = launch.commands(start_of(order, source, ports))
    except Exception as error:  # an option of another type than it expects, or its author's mistake
        raise EngineError(f"{order.engine.name}: it gives no command: {type(error).__name__}: {error}.") from error
    if not _are_commands(inner):
        raise EngineError(f"{order.engine.name}: its commands must be a list of lists of strings, got {inner!r}.")
    if isinstance(launch.runs_in, Container):
        return [
            containers.run_command(
                launch,
                inner[0],
                name=f"loadgen-{engine_id}",
                port=ports[0],
                gpus=order.placement.indices,
                mounts=source.mounts,
            )
        ]
    programs = str(environments.programs(launch.runs_in, order.engine.name))
    return [[word.replace("{bin}", programs) for word in command] for command in inner]


def _are_commands(given: object) -> bool:
    lists = isinstance(given, Sequence) and not isinstance(given, str) and len(given) > 0
    return lists and all(
        isinstance(one, Sequence) and not isinstance(one, str) and one and all(isinstance(w, str) for w in one)
        for one in given  # type: ignore[attr-defined]  # it is a sequence
    )


def served_name(order: Order, source: Source, ports: Ports) -> str:
    """Return the name that requests use for the model; raises EngineError if the engine's own function for it fails."""
    try:
        return order.engine.served_model_name(start_of(order, source, ports))
    except Exception as error:
        raise EngineError(
            f"{order.engine.name}: `served_model_name` fails: {type(error).__name__}: {error}."
        ) from error


def variables(order: Order) -> dict[str, str]:
    """Return the environment variables that are set for an order's processes."""
    own = {} if isinstance(order.placement.launch.runs_in, Container) else dict(order.placement.launch.variables)
    if order.placement.launch.uses_gpu:
        own["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # CUDA would count otherwise than the system does
        own["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, order.placement.indices))
    return own


def start_of(order: Order, source: Source, ports: Ports) -> Start:
    """Return what the engine's own file is given."""
    runs_in = order.placement.launch.runs_in
    inside = isinstance(runs_in, Container)
    return Start(
        model=order.model,
        source=source.path,
        is_random=order.is_random,
        port=runs_in.port if isinstance(runs_in, Container) else ports[0],
        more_ports=ports[1:],
        host="0.0.0.0" if inside else HOST,  # noqa: S104 inside the container; docker publishes it on loopback
        gpus=order.placement.indices,
        context=order.context,
        options=order.options,
    )


def shown(lines: Sequence[Sequence[str]], variables: Mapping[str, str]) -> str:
    """Return command lines as they can be pasted into a shell."""
    prefix = "".join(f"{name}={shlex.quote(value)} " for name, value in variables.items())
    return " & ".join(prefix + shlex.join(line) for line in lines)


def launched(
    order: Order, source: Source, lines: Sequence[Sequence[str]], serves: str, host: str, seconds: float
) -> Launched:
    """Return what is known of an engine that has answered, ``seconds`` after its start."""
    launch = order.placement.launch
    image = launch.runs_in.image if isinstance(launch.runs_in, Container) else None
    return Launched(
        engine=order.engine.spec,
        title=order.title,
        model=order.model.name,
        serves=serves,
        source=source.path,
        revision=source.revision,
        dtype=order.model.dtype,
        weight_bytes=None if order.model.shape is None else order.model.shape.weight_bytes(order.model.dtype),
        weights="none" if launch.weight_format == "none" else "random" if order.is_random else "trained",
        template=order.model.template,
        stop=order.model.stop,
        context=order.context,
        commands=tuple(map(tuple, lines)),
        variables=variables(order),
        runs_in="environment" if image is None else "container",
        image=image,
        image_digest=None if image is None else containers.digest(image),
        packages={}
        if isinstance(launch.runs_in, Container)
        else environments.versions(launch.runs_in, order.engine.name),
        gpus=order.placement.gpus,
        split=launch.split if len(order.placement.gpus) > 1 else None,
        options=dict(order.options),
        says=readiness.says(order.engine, host),
        startup_s=round(seconds, 2),
        notes=order.engine.notes,
    )
