"""Two runs side by side, over the prompts that both have answered."""

from collections.abc import Callable, Mapping, Sequence

from loadgen.measure import metrics
from loadgen.measure.statistics import mean
from loadgen.record import Outcome, Phase, RequestRecord
from loadgen.results.tables import Table
from loadgen.results.text import estimate, number

_METRICS: Mapping[str, Callable[[RequestRecord], float | None]] = {
    "TTFT, ms": metrics.ttft_ms,
    "TPOT, ms": metrics.tpot_ms,
    "E2E, ms": metrics.e2e_ms,
    "tokens/s": metrics.tokens_per_second,
    "output tokens": lambda r: None if r.output_tokens is None else float(r.output_tokens),
}


def compare(first: Sequence[RequestRecord], second: Sequence[RequestRecord]) -> Table:
    """Return means over the prompts that both runs have, and the paired difference with its 95 % interval."""
    one, other = _by_prompt(first), _by_prompt(second)
    common = sorted(one.keys() & other.keys())
    rows = tuple(row for name, metric in _METRICS.items() if (row := _row(name, metric, one, other, common)))
    note = f"Means over {len(common)} prompts that both runs have answered; differences are paired by prompt."
    return Table("Side by side", ("", "first", "second", "second - first [95 % interval]"), rows, note)


def _by_prompt(records: Sequence[RequestRecord]) -> dict[tuple[int, int], RequestRecord]:
    measured = (r for r in records if r.phase is Phase.MEASURE and r.outcome is Outcome.OK)
    return {(r.prompt_row, r.round): r for r in measured}


def _row(
    name: str,
    metric: Callable[[RequestRecord], float | None],
    one: Mapping[tuple[int, int], RequestRecord],
    other: Mapping[tuple[int, int], RequestRecord],
    common: Sequence[tuple[int, int]],
) -> tuple[str, ...] | None:
    pairs = [(a, b) for key in common if (a := metric(one[key])) is not None and (b := metric(other[key])) is not None]
    difference = mean([b - a for a, b in pairs])
    if difference is None:
        return None
    n = len(pairs)
    shown = estimate({"value": difference.value, "ci95": difference.ci95})
    return name, number(sum(a for a, _ in pairs) / n), number(sum(b for _, b in pairs) / n), shown
