"""Options and GPUs that the user chooses for an engine: parsed and checked.

The values come from flags or from ``matrix.toml``, so the functions raise ValueError and the caller names the origin.
"""

from collections.abc import Sequence
from difflib import get_close_matches

from loadgen.engines.engine import Engine, Options
from loadgen.measure.facts import GpuFacts


def parse_option(engine: Engine, text: str) -> tuple[str, str | int | float | bool]:
    """Return name and value of ``NAME=VALUE``; raises ValueError for other text and for an option that is unknown."""
    name, sign, value = text.partition("=")
    if not sign:
        raise ValueError("write NAME=VALUE.")
    check_options(engine, {name: value})
    return name, _value(value)


def check_options(engine: Engine, options: Options) -> None:
    """Raise ValueError for an option that the engine does not have."""
    for name in options:
        if name not in engine.options:
            near = get_close_matches(name, engine.options, 1)
            meant = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(engine.options) or 'none'}."
            raise ValueError(f"{engine.name} has no option {name!r}: {meant}")


def chosen_gpus(there: Sequence[GpuFacts], wanted: str | Sequence[int] | None) -> Sequence[GpuFacts]:
    """Return the GPUs whose indices are listed, as in ``0,1`` or ``[0, 1]``; without a list, all that can be used.

    Raises ValueError for a list that cannot be read, and for a GPU that is missing, listed twice or lost.
    """
    if wanted is None:
        return [gpu for gpu in there if gpu.name is not None]  # one that has fallen off the bus has no name
    try:
        indices = [int(part) for part in wanted.split(",")] if isinstance(wanted, str) else list(wanted)
    except ValueError:
        raise ValueError("write their numbers, as in 0,1.") from None
    by_index = {gpu.index: gpu for gpu in there}
    missing = [index for index in indices if index not in by_index]
    if missing:
        have = ", ".join(map(str, by_index)) or "none"
        raise ValueError(f"GPU {', '.join(map(str, missing))}: there is none of that number; there are: {have}.")
    for index in indices:
        if indices.count(index) > 1:
            raise ValueError(f"GPU {index} is named twice.")
        if by_index[index].name is None:
            raise ValueError(f"GPU {index} does not say what it is: is it lost (nvidia-smi)?")
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
