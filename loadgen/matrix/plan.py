"""What each cell comes to on this machine: where it would run, as what, how much it needs, and how long it takes."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from loadgen.engines.engine import Container, Engine, Environment
from loadgen.errors import ConfigFileError, EngineError
from loadgen.launch import environments, sources
from loadgen.launch.folders import cache_folder
from loadgen.launch.options import chosen_gpus
from loadgen.launch.order import Order, commands, shown, variables
from loadgen.launch.placement import check_memory, needed_bytes, place, way
from loadgen.matrix.cell import Cell
from loadgen.matrix.config import Config, EngineConfig, PlanFor, context_of, engine_of, model_of, throughput_of
from loadgen.matrix.reference import SPEED
from loadgen.measure.facts import GpuFacts, kind
from loadgen.measure.roofline import bound
from loadgen.models.model import Model
from loadgen.results.table import Table
from loadgen.results.text import ABSENT
from loadgen.steps import parse_steps

_GB = 1e9
_LIKELY_SHARE = 0.6
"""Of the memory-bandwidth bound that engines of 2023 reached with one user, about."""

_AUTO_STEPS = 8
"""Steps that doubling takes, about: 1 to 32 users, and two beyond the knee."""

_CLIENT_S = 5.0
"""What a run takes beside its requests."""

_PORT = (8000, 8001, 8002)
"""Shown in a plan; a run takes ports that are free then."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One cell, looked at."""

    cell: Cell
    engine: Engine
    said: EngineConfig
    model: Model
    order: Order | None
    """How its engine is started, if memory allows; None where it runs already, or cannot be."""
    skip: str | None = None
    """Why engine and model do not go together."""
    problem: str | None = None
    """What is in the way here and now."""
    remark: str | None = None
    """What has to be seen to before it can run."""

    @property
    def expected_tokens_per_second(self) -> float | None:
        """Output tokens/s of one user: the reference, or a share of the bound; None where neither is known."""
        if self.order is None:
            return None
        known = SPEED.get((reference_of(self.engine, self.said) or "", self.model.name))
        launch, gpus = self.order.placement.launch, self.order.placement.gpus
        if launch.weight_format == "none":  # simulated
            return None if known is None else known.value * float(self.said.options.get("time_factor", 1.0))
        name = kind(gpus)
        if name is None or self.model.shape is None:
            return None
        if known is not None and "A100" in name:
            return known.value
        limit = bound(self.model.shape.weight_bytes(self.model.dtype), name, len(gpus), launch.split)
        return None if limit is None else _LIKELY_SHARE * limit

    def seconds(self, config: Config) -> float | None:
        """Return how long its missing parts take at most, about; None where nobody can tell."""
        rate, total = self.expected_tokens_per_second, 0.0
        for part in self.cell.missing:
            total += _CLIENT_S
            if part == "throughput":
                asked = throughput_of(config, self.cell.column)
                steps = parse_steps(asked.steps)
                total += asked.step_time * (_AUTO_STEPS if steps is None else len(steps))
            elif rate is None:
                return None
            else:
                total += (config.sample + config.warmup) * config.max_tokens / rate
        return total + (self.order.placement.launch.startup_s if self.order else 0.0)


def look(config: Config, cell: Cell, there: Sequence[GpuFacts], *, planned: bool = False) -> Planned:
    """Return the plan of one cell. A reason why it cannot be measured is part of the plan and raises no exception.

    ``planned``: ``there`` are the GPUs of another machine; everything that can be installed is assumed to be there.
    """
    engine, said = engine_of(config, cell.column)
    model = model_of(config, cell.row)
    if (why := refusal(config, engine, said, model)) is not None:
        return Planned(cell, engine, said, model, None, skip=why)
    if said.host is not None:
        return Planned(cell, engine, said, model, None)
    is_random = config.weights == "random"
    context = context_of(config, cell.row, model)
    tokens = context * engine.reserved_sequences(said.options)
    wanted = config.gpus if said.gpus is None else said.gpus
    try:
        with ConfigFileError.naming("gpus:"):
            usable = chosen_gpus(there, wanted)
        launch = way(engine, usable, runs_in=said.runs_in, planned=planned)
        placement = place(launch, model, usable, tokens=tokens, chosen=said.gpus is not None)
    except (ConfigFileError, EngineError) as error:
        return Planned(cell, engine, said, model, None, problem=str(error))
    order = Order(
        engine=engine,
        model=model,
        is_random=is_random,
        placement=placement,
        context=context,
        options=said.options,
        deadline_s=config.startup_deadline,
    )
    remark = None if is_random or not model.substitute else f"{model.name}: {model.note}; take {model.substitute}"
    try:
        sources.check(model, launch, is_random=is_random)
        if not planned:
            check_memory(model, placement, tokens)
    except EngineError as error:
        if planned:  # the other machine may have the files; the plan is printed with a remark
            return Planned(cell, engine, said, model, order, remark=str(error))
        return Planned(cell, engine, said, model, order, problem=str(error))
    return Planned(cell, engine, said, model, order, remark=remark)


def refusal(config: Config, engine: Engine, said: EngineConfig, model: Model) -> str | None:
    """Return why engine and model do not go together, or the engine cannot do what is asked; None where they do."""
    if config.ignore_eos and engine.fixed_length_fields is None:
        return f"{engine.title} cannot be asked to ignore the end of sequence"
    return engine.unsupported_reason(model, said.options)


def reference_of(engine: Engine, said: EngineConfig) -> str | None:
    """Return the engine of the specification whose figures stand beside a column's."""
    if said.reference is not None:
        return said.reference
    like = said.options.get("like")
    name = str(like) if like is not None else engine.name
    return name if any(name == known for known, _ in SPEED) else None


def gpus_of(machine: PlanFor) -> list[GpuFacts]:
    """Return the GPUs of a machine that is not here."""
    size = int(machine.memory_gib * (1 << 30))
    return [GpuFacts(index=index, name=machine.gpu, memory_bytes=size) for index in range(machine.count)]


def plan_table(config: Config, cells: Sequence[Planned], machine: PlanFor | None = None) -> Table:
    """Return what would be done, in its order; on another machine, if one is named."""
    rows = []
    for number, planned in enumerate(cells, start=1):
        seconds = planned.seconds(config)
        rows.append(
            (
                str(number),
                planned.cell.row,
                planned.cell.column,
                _where(planned),
                _memory(planned, config),
                ABSENT if seconds is None or planned.skip or planned.problem else f"{seconds / 60:.0f} min",
                planned.skip or planned.problem or planned.remark or "",
            )
        )
    columns = ("cell", "model", "engine", "runs", "memory, GB", "at most", "in the way")
    elsewhere = "" if machine is None else f"Planned for {machine.text}, as this machine has no GPU. "
    note = (
        elsewhere
        + f"{', '.join(config.measure)}, {config.sample} prompts of {config.dataset}, {config.weights} weights. "
    )
    note += _times(config, cells) + _disk(cells, here=machine is None)
    return Table("Plan", columns, tuple(rows), note, words=(1, 2, 3, 6), wide=(6,))


def launch_lines(planned: Planned) -> str:
    """Return how a cell's engine would be started, as it can be pasted into a shell."""
    if planned.order is None:
        return f"runs already at {planned.said.host}" if planned.said.host else "cannot be started here"
    order = planned.order
    source = sources.expected(order.model, order.placement.launch, is_random=order.is_random)
    lines = commands(order, source, _PORT, order.engine.name)
    return shown(lines, variables(order))


def _where(planned: Planned) -> str:
    if planned.said.host:
        return planned.said.host
    if planned.order is None:
        return ABSENT
    placement = planned.order.placement
    if not placement.gpus:
        return "on the CPU"
    split = {"tensor": ", tensor parallel", "layers": ", layers in turn", None: ""}[placement.launch.split]
    return f"on GPU {', '.join(map(str, placement.indices))}" + (split if len(placement.gpus) > 1 else "")


def _memory(planned: Planned, config: Config) -> str:
    conversations = planned.engine.reserved_sequences(planned.said.options)
    needed = needed_bytes(planned.model, conversations * context_of(config, planned.cell.row, planned.model))
    return ABSENT if needed is None or planned.said.host else f"{needed / _GB:.1f}"


def _times(config: Config, cells: Sequence[Planned]) -> str:
    seconds = [planned.seconds(config) for planned in cells if planned.skip is None and planned.problem is None]
    known = sum(second for second in seconds if second is not None)
    unknown = seconds.count(None)
    if unknown == len(seconds):
        return "How long it takes cannot be told. "
    more = f", and {unknown} cells of which that cannot be told" if unknown else ""
    return f"At most about {known / 3600:.1f} h{more}. "


def _disk(cells: Sequence[Planned], *, here: bool) -> str:
    """Return what is still to be put on the disk, as far as it is known; on another machine that is everything."""
    needed: dict[str, float] = {}
    for planned in cells:
        if planned.order is None or planned.problem is not None:
            continue
        launch = planned.order.placement.launch
        path = Path(sources.expected(planned.model, launch, is_random=planned.order.is_random).path or "/")
        if (
            launch.weight_format != "none"
            and not (here and path.exists())
            and planned.model.shape is not None
            and not launch.supports_dummy_weights
        ):
            needed[str(path)] = planned.model.shape.weight_bytes(planned.model.dtype) / _GB
        if isinstance(launch.runs_in, Environment) and not (
            here and environments.is_made(launch.runs_in, planned.engine.name)
        ):
            needed[planned.engine.name] = launch.runs_in.size_gb
    images = {
        p.order.placement.launch.runs_in.image
        for p in cells
        if p.order is not None and p.problem is None and isinstance(p.order.placement.launch.runs_in, Container)
    }
    also = f" and the images {', '.join(sorted(images))}" if images else ""
    if not here:
        return f"Disk: {sum(needed.values()):.1f} GB{also}."
    place = cache_folder()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free / _GB
    return f"Disk: {sum(needed.values()):.1f} GB still to come{also}, {free:.0f} GB are free."
