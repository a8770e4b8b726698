"""Two runs side by side, over the prompts that both have answered."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from loadgen.measure.records import Records
from loadgen.measure.statistics import mean
from loadgen.metrics import CONNECT, PER_REQUEST, Metric
from loadgen.printable import escaped
from loadgen.record import Outcome, Phase, RequestRecord
from loadgen.results.manifest import Manifest
from loadgen.results.summary import summarise
from loadgen.results.summary_schema import Figure
from loadgen.results.table import Table
from loadgen.results.text import estimate, number, subject_of

if TYPE_CHECKING:
    import pandas as pd

COMPARED = tuple(metric for metric in PER_REQUEST if metric is not CONNECT)
"""Connections are mostly reused, so that few prompts have that time in both runs."""

Run = tuple[Manifest, Sequence[RequestRecord]]


def compare(first: Run, second: Run) -> Table:
    """Return means over the prompts that both runs have, and the paired difference with its 95 % interval."""
    import pandas as pd

    frames = {"first": _by_prompt(first[1]), "second": _by_prompt(second[1])}
    both = pd.concat(frames, axis=1, join="inner").sort_index()
    rows = tuple(
        row for metric in COMPARED if (row := _row(metric, both.xs(metric.key, axis=1, level=1).dropna())) is not None
    )
    note = f"Means over {len(both)} prompts that both runs have answered; differences are paired by prompt."
    note += f"\n  first:  {_described(first)}\n  second: {_described(second)}"
    if differing := _differing(first[0], second[0]):
        note += f"\n  They differ in {', '.join(differing)}."
    return Table("Side by side", ("", "first", "second", "second - first [95 % interval]"), rows, note)


def _described(run: Run) -> str:
    summary = summarise(*run)
    return escaped(f"{run[0].run_id}: {subject_of(summary).title}, {summary.verdict.status.value}")


def _differing(first: Manifest, second: Manifest) -> list[str]:
    """Return what of the runs' descriptions differs, apart from where the results went."""
    one, other = ({**m.scenario, "users": m.users, "host": m.host, "engine": m.engine} for m in (first, second))
    one["prompts"], other["prompts"] = (m.dataset.get("sample_sha256") for m in (first, second))
    return sorted(name for name in one.keys() | other.keys() - {"results"} if one.get(name) != other.get(name))


def _by_prompt(records: Sequence[RequestRecord]) -> "pd.DataFrame":
    """Return a column for each metric, NaN where it was not measured, and a row for each prompt in each round."""
    import pandas as pd

    known = Records.of(records).where_known("prompt_row")
    answers = known.where(known.equal("phase", Phase.MEASURE) & known.equal("outcome", Outcome.OK))
    prompts = pd.MultiIndex.from_arrays([answers.ints("prompt_row"), answers.ints("round")], names=["prompt", "round"])
    figures = pd.DataFrame({metric.key: answers.figure(metric) for metric in COMPARED}, index=prompts)
    return figures[~prompts.duplicated(keep="last")]


def _row(metric: Metric, pairs: "pd.DataFrame") -> tuple[str, ...] | None:
    difference = mean((pairs["second"] - pairs["first"]).to_list())
    if difference is None:
        return None
    shown = estimate(Figure(value=difference.value, ci95=difference.ci95, n=difference.n))
    return metric.heading, number(pairs["first"].mean()), number(pairs["second"].mean()), shown
