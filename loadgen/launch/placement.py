"""Where an engine can run: in which way it is started, and on which GPUs."""

from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from loadgen.engines.engine import Container, Engine, Launch
from loadgen.errors import EngineError
from loadgen.launch import containers, environments
from loadgen.measure.facts import GpuFacts
from loadgen.models.model import Model

OVERHEAD_BYTES = 2_000_000_000
"""Of a GPU's memory that is not weights or KV cache: context, activations, buffers."""

USABLE = 0.92
"""Share of a GPU's memory that an engine gets at most: vLLM takes 0.9 by default."""

_GB = 1e9
_ARTICLE = {"container": "a", "environment": "an"}


@dataclass(frozen=True, slots=True)
class Placement:
    """A way to start an engine, and the GPUs that it gets; none: the CPU."""

    launch: Launch
    gpus: tuple[GpuFacts, ...]

    @property
    def indices(self) -> tuple[int, ...]:
        """The GPUs, as the system counts them."""
        return tuple(gpu.index for gpu in self.gpus)


def kind_of(launch: Launch) -> str:
    """Return ``container`` or ``environment``."""
    return "container" if isinstance(launch.runs_in, Container) else "environment"


def in_the_way(engine: Engine, launch: Launch, gpus: Sequence[GpuFacts], *, planned: bool = False) -> str | None:
    """Return what is in the way of starting an engine so, None where nothing is.

    ``planned``: for another machine, with these GPUs and with whatever can be installed.
    """
    if launch.needs_gpu and not gpus:
        return "it needs a GPU, and there is none"
    if planned:
        return None
    if isinstance(launch.runs_in, Container):
        return containers.why_not()
    if lacking := environments.lacks(launch.runs_in, engine.name):
        return f"it is compiled when it is installed, and {', '.join(lacking)} is not on the PATH"
    return None


def way(engine: Engine, gpus: Sequence[GpuFacts], *, runs_in: str | None = None, planned: bool = False) -> Launch:
    """Choose a way to start an engine; raises EngineError if none works here, with the reason for each.

    ``planned``: see :func:`in_the_way`.
    """
    if not engine.launches:
        raise EngineError(f"{engine.name} cannot be started from here: run it yourself and name its host.")
    launches = [launch for launch in engine.launches if runs_in in {None, kind_of(launch)}]
    if not launches:
        raise EngineError(f"{engine.name} does not run in a {runs_in}; there is {kind_of(engine.launches[0])}.")
    hindrances = []
    for launch in launches:
        why = in_the_way(engine, launch, gpus, planned=planned)
        if why is None:
            return launch
        hindrances.append(f"in {_ARTICLE[kind_of(launch)]} {kind_of(launch)}: {why}")
    raise EngineError(f"{engine.name} cannot be started here ({'; '.join(hindrances)}).")


def place(launch: Launch, model: Model, gpus: Sequence[GpuFacts], *, tokens: int, chosen: bool) -> Placement:
    """Choose as few GPUs as the model fits on; raises EngineError if it does not fit on all of them.

    ``gpus``: GPUs that may be used. ``tokens``: capacity of the KV cache. ``chosen``: the user named the GPUs, so all
    of them are used.
    """
    if not launch.uses_gpu or not gpus:
        return Placement(launch, ())
    if chosen:
        return Placement(launch, tuple(gpus))
    needed = needed_bytes(model, tokens)
    powers = len(gpus).bit_length() if launch.split else 1
    counts = [1 << power for power in range(powers)]  # heads are shared out evenly: powers of two
    for count in counts:
        if needed is None or all(_fits(needed // count, gpu) for gpu in gpus[:count]):
            return Placement(launch, tuple(gpus[:count]))
    assert needed is not None
    raise EngineError(
        f"{model.name} needs {needed / _GB:.0f} GB for weights and KV cache: too much for "
        f"{counts[-1]} x {gpus[0].name}. Name GPUs to try it all the same."
    )


def needed_bytes(model: Model, tokens: int) -> int | None:
    """Return the memory of a model's weights and of so many tokens; None where its shape is not known."""
    if model.shape is None:
        return None
    return model.shape.weight_bytes(model.dtype) + tokens * model.shape.kv_bytes(model.dtype)


def check_memory(model: Model, placement: Placement, tokens: int) -> None:
    """Raise EngineError if the memory that is free now is too small for a model."""
    needed = needed_bytes(model, tokens)
    if not placement.gpus:
        free = int(psutil.virtual_memory().available)
        if needed is not None and placement.launch.weight_format != "none" and needed > free:
            raise EngineError(f"{model.name} needs {needed / _GB:.1f} GB of memory, {free / _GB:.1f} GB are free.")
        return
    share = OVERHEAD_BYTES + (needed or 0) // len(placement.gpus)
    for gpu in placement.gpus:
        if not _fits(share - OVERHEAD_BYTES, gpu):  # nor when it is idle: the user has named it all the same
            continue
        if gpu.memory_free_bytes is not None and share > gpu.memory_free_bytes:
            raise EngineError(
                f"{model.name} needs {share / _GB:.1f} GB of GPU {gpu.index} ({gpu.name}), "
                f"{gpu.memory_free_bytes / _GB:.1f} GB are free: what else runs there (nvidia-smi)?"
            )


def _fits(share: int, gpu: GpuFacts) -> bool:
    return gpu.memory_bytes is None or share + OVERHEAD_BYTES <= USABLE * gpu.memory_bytes
