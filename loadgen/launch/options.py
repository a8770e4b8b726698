"""What the user gives an engine, read and checked."""

from collections.abc import Sequence
from difflib import get_close_matches

from loadgen.engines.engine import Engine, Options
from loadgen.errors import UsageError
from loadgen.measure.facts import GpuFacts


def engine_options(engine: Engine, given: Sequence[str]) -> Options:
    """Read options as ``NAME=VALUE``; raises UsageError."""
    found: dict[str, str | int | float | bool] = {}
    for text in given:
        name, sign, value = text.partition("=")
        if not sign:
            raise UsageError(f"--option {text}: write NAME=VALUE.")
        found[name] = _value(value)
    check_options(engine, found)
    return found


def check_options(engine: Engine, options: Options) -> None:
    """Raise UsageError for an option that the engine does not know."""
    for name in options:
        if name not in engine.options:
            near = get_close_matches(name, engine.options, 1)
            meant = f"did you mean {near[0]!r}?" if near else f"it knows {', '.join(engine.options) or 'none'}."
            raise UsageError(f"{engine.name} has no option {name!r}: {meant}")


def chosen_gpus(there: Sequence[GpuFacts], wanted: str | Sequence[int] | None) -> Sequence[GpuFacts]:
    """Return the GPUs of a list as in ``0,1``, or all that there are; raises UsageError for one that there is not."""
    if wanted is None:
        return [gpu for gpu in there if gpu.name is not None]  # one that has fallen off the bus has no name
    try:
        indices = [int(part) for part in wanted.split(",")] if isinstance(wanted, str) else list(wanted)
    except ValueError:
        raise UsageError(f"--gpus {wanted}: write their numbers, as in 0,1.") from None
    by_index = {gpu.index: gpu for gpu in there}
    missing = [index for index in indices if index not in by_index]
    if missing:
        have = ", ".join(map(str, by_index)) or "none"
        raise UsageError(f"GPU {', '.join(map(str, missing))}: there is none of that number; there are: {have}.")
    for index in indices:
        if indices.count(index) > 1:
            raise UsageError(f"GPU {index} is named twice.")
        if by_index[index].name is None:
            raise UsageError(f"GPU {index} does not say what it is: is it lost (nvidia-smi)?")
    return [by_index[index] for index in indices]


def _value(text: str) -> str | int | float | bool:
    if text.lower() in {"true", "false"}:
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
