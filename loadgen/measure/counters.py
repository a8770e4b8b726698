"""The engine's own counters, read from its ``/metrics``; each engine calls them by names of its own."""

import math
from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

from loadgen.measure.facts import EngineCounters


def parse(exposition: str, at_ns: int, names: Mapping[str, tuple[str, ...]]) -> EngineCounters | None:
    """Read an exposition, summing over all label sets; None where it names nothing that is known, or is none.

    ``names``: the fields of :class:`EngineCounters` to what the engine calls them; the first that is there counts.
    """
    sums: dict[str, float] = {}
    try:
        for family in text_string_to_metric_families(exposition):
            for sample in family.samples:
                sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    except (ValueError, KeyError, IndexError):
        return None
    # What is not a number was not told.
    sums = {name: total for name, total in sums.items() if math.isfinite(total)}
    found = {ours: _first(sums, theirs) for ours, theirs in names.items()}
    if all(value is None for value in found.values()):
        return None
    return EngineCounters(at_ns=at_ns, **found)


def _first(sums: Mapping[str, float], names: tuple[str, ...]) -> float | None:
    return next((sums[name] for name in names if name in sums), None)
