"""Two runs side by side, over the prompts that both have answered."""

from collections.abc import Mapping, Sequence

from loadgen.measure.statistics import mean
from loadgen.metrics import PER_REQUEST, Metric
from loadgen.printable import escaped
from loadgen.record import Outcome, Phase, RequestRecord
from loadgen.results.manifest import Manifest
from loadgen.results.summary import summarise
from loadgen.results.table import Table
from loadgen.results.text import estimate, number, title

Run = tuple[Manifest, Sequence[RequestRecord]]


def compare(first: Run, second: Run) -> Table:
    """Return means over the prompts that both runs have, and the paired difference with its 95 % interval."""
    one, other = _by_prompt(first[1]), _by_prompt(second[1])
    common = sorted(one.keys() & other.keys())
    rows = tuple(row for metric in PER_REQUEST if (row := _row(metric, one, other, common)))
    note = f"Means over {len(common)} prompts that both runs have answered; differences are paired by prompt."
    note += f"\n  first:  {_described(first)}\n  second: {_described(second)}"
    if differing := _differing(first[0], second[0]):
        note += f"\n  They differ in {', '.join(differing)}."
    return Table("Side by side", ("", "first", "second", "second - first [95 % interval]"), rows, note)


def _described(run: Run) -> str:
    summary = summarise(*run)
    return escaped(f"{run[0].run_id}: {title(summary)}, {summary['verdict']['status']}")


def _differing(first: Manifest, second: Manifest) -> list[str]:
    """Return what of the runs' descriptions differs, apart from where the results went."""
    one, other = ({**m.scenario, "users": m.users, "host": m.host, "engine": m.engine} for m in (first, second))
    one["prompts"], other["prompts"] = (m.dataset.get("sample_sha256") for m in (first, second))
    return sorted(name for name in one.keys() | other.keys() - {"results"} if one.get(name) != other.get(name))


def _by_prompt(records: Sequence[RequestRecord]) -> dict[tuple[int, int], RequestRecord]:
    measured = (r for r in records if r.phase is Phase.MEASURE and r.outcome is Outcome.OK)
    return {(r.prompt_row, r.round): r for r in measured if r.prompt_row is not None}


def _row(
    metric: Metric,
    one: Mapping[tuple[int, int], RequestRecord],
    other: Mapping[tuple[int, int], RequestRecord],
    common: Sequence[tuple[int, int]],
) -> tuple[str, ...] | None:
    of = metric.of
    assert of is not None
    pairs = [(a, b) for key in common if (a := of(one[key])) is not None and (b := of(other[key])) is not None]
    difference = mean([b - a for a, b in pairs])
    if difference is None:
        return None
    n = len(pairs)
    shown = estimate({"value": difference.value, "ci95": difference.ci95})
    return metric.heading, number(sum(a for a, _ in pairs) / n), number(sum(b for _, b in pairs) / n), shown
