"""What an engine reports in its ``/metrics``, which has other names in each engine: counters, and its present load."""

import math
from collections.abc import Callable, Mapping

from prometheus_client.parser import text_string_to_metric_families

from loadgen.measure.facts import EngineCounters, EngineSample


def parse(exposition: str, at_ns: int, names: Mapping[str, tuple[str, ...]]) -> EngineCounters | None:
    """Read an exposition, summing over all label sets; None where it names nothing that is known, or is none.

    ``names``: the fields of :class:`EngineCounters` to what the engine calls them; the first that is there counts.
    """
    found = _found(_values(exposition, sum), names)
    return None if found is None else EngineCounters(at_ns=at_ns, **found)


def parse_load(
    exposition: str, at_ns: int, totals: Mapping[str, tuple[str, ...]], shares: Mapping[str, tuple[str, ...]]
) -> EngineSample | None:
    """Read the present load of an engine; None where nothing that is known is named.

    ``totals`` are summed over label sets; of ``shares`` the largest counts. Only the lines of these names are parsed:
    this happens while requests are being measured, and an engine may expose thousands of lines.
    """
    wanted = tuple(name for names in (*totals.values(), *shares.values()) for name in names)
    lines = "\n".join(line for line in exposition.splitlines() if line.startswith(wanted))
    summed, largest = _found(_values(lines, sum), totals), _found(_values(lines, max), shares)
    return None if summed is None and largest is None else EngineSample(at_ns, **(summed or {}), **(largest or {}))


def _values(exposition: str, of_label_sets: Callable[[list[float]], float]) -> dict[str, float]:
    """Return one value for each name; what is not a number is left out, and so is all of what is no exposition."""
    values: dict[str, list[float]] = {}
    try:
        for family in text_string_to_metric_families(exposition):
            for sample in family.samples:
                values.setdefault(sample.name, []).append(sample.value)
    except (ValueError, KeyError, IndexError):
        return {}
    totals = {name: of_label_sets(of_name) for name, of_name in values.items()}
    return {name: total for name, total in totals.items() if math.isfinite(total)}


def _found(values: Mapping[str, float], names: Mapping[str, tuple[str, ...]]) -> dict[str, float | None] | None:
    """Return the values by our names; None where none of them is there."""
    found = {ours: _first(values, theirs) for ours, theirs in names.items()}
    return None if all(value is None for value in found.values()) else found


def _first(sums: Mapping[str, float], names: tuple[str, ...]) -> float | None:
    return next((sums[name] for name in names if name in sums), None)
