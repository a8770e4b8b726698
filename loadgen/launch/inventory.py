"""What engines there are, which run, and what each lacks on this machine: tables for a terminal."""

from collections.abc import Sequence

import psutil

from loadgen.engines.catalogue import ENGINES
from loadgen.engines.engine import Container, Engine, Environment, Launch
from loadgen.launch import containers, environments
from loadgen.launch.gpus import gpus, why_none
from loadgen.launch.options import chosen_gpus
from loadgen.launch.placement import in_the_way, kind_of
from loadgen.launch.registry import registered
from loadgen.measure.facts import GpuFacts
from loadgen.results.table import Table
from loadgen.results.text import ABSENT

_GB = 1e9


def engines_table() -> Table:
    """Return all engines, and how each can be started."""
    rows = tuple(
        (e.name, e.title, ", or ".join(map(_way, e.launches)) or "by you: name its --host") for e in ENGINES.values()
    )
    return Table("Engines", ("name", "", "is started"), rows, "Any other: one file of your own.", words=(0, 1, 2))


def running_table() -> Table:
    """Return the engines that run."""
    rows = []
    for one in registered():
        known = one.launched
        what = "starting" if known is None else known.model
        state = "left behind, ended by the next start" if one.is_orphan else "" if one.is_there else "is gone"
        on = f"GPU {', '.join(map(str, one.gpus))}" if one.gpus else "the CPU"
        rows.append((one.host, one.id, what, on, state))
    note = "" if rows else "None runs."
    return Table("Running", ("at", "id", "model", "on", ""), tuple(rows), note, words=(0, 1, 2, 3, 4))


def check_table(engines: Sequence[Engine]) -> tuple[Table, bool]:
    """Return what is in the way of each engine here, and whether all of them can be started."""
    there = gpus()
    rows, all_can = [], True
    for engine in engines:
        hindrances = [in_the_way(engine, launch, chosen_gpus(there, None)) for launch in engine.launches]
        for launch, why in zip(engine.launches, hindrances, strict=True):
            rows.append((engine.name, _kind(launch), why or _readiness(engine, launch)))
        if not engine.launches:
            rows.append((engine.name, ABSENT, "is not started from here: run it yourself and name its --host"))
        all_can = all_can and None in hindrances
    memory = psutil.virtual_memory()
    note = f"Memory: {memory.available / _GB:.1f} of {memory.total / _GB:.1f} GB are free. " + _gpus(there)
    return Table("Engines on this machine", ("engine", "in a", "is"), tuple(rows), note, words=(0, 1, 2)), all_can


def _kind(launch: Launch) -> str:
    return kind_of(launch) + ("" if launch.uses_gpu else ", on the CPU")


def _gpus(there: Sequence[GpuFacts]) -> str:
    if not there:
        return f"No GPU: {why_none()}."
    return "GPUs: " + "; ".join(map(_gpu, there))


def _gpu(gpu: GpuFacts) -> str:
    if gpu.name is None:
        return f"{gpu.index} does not say what it is, and is not used"
    memory = f"{_gb(gpu.memory_free_bytes)} of {_gb(gpu.memory_bytes)} free"
    return f"{gpu.index} {gpu.name}, {memory}, driver {gpu.driver}"


def _gb(size: int | None) -> str:
    return ABSENT if size is None else f"{size / _GB:.1f} GB"


def _way(launch: Launch) -> str:
    if isinstance(launch.runs_in, Container):
        return f"in the container {launch.runs_in.image}"
    if not launch.runs_in.requirements:
        return "in this environment, on the CPU" if not launch.uses_gpu else "in this environment"
    first, *more = launch.runs_in.requirements
    cpu = "" if launch.uses_gpu else ", on the CPU"
    return f"in an environment of its own with {first}" + (f" and {len(more)} more" if more else "") + cpu


def _readiness(engine: Engine, launch: Launch) -> str:
    if isinstance(launch.runs_in, Environment):
        if environments.is_made(launch.runs_in, engine.name):
            return "ready"
        return f"not installed yet: `loadgen engine up` does that, about {launch.runs_in.size_gb:g} GB"
    if containers.has_image(launch.runs_in.image):
        return "ready"
    return f"the image is not here yet: `loadgen engine up` pulls it, or docker pull {launch.runs_in.image}"
