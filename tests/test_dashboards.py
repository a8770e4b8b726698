"""Every query of the dashboards has an answer while runs, engines and GPUs are scraped together."""

import re
import time
from collections.abc import Callable, Iterator

import pytest
from boards.queries import QUANTILES
from cluster import Started
from conftest import FIGURE
from dashboards import DASHBOARDS, Json, annotations, asking_variables, each_dashboard, names_of, panels
from prometheus import Prometheus
from watching import Watched, watched

from loadgen import metrics
from loadgen.measure.statistics import SMALLEST_SAMPLE, index_of, percentile
from loadgen.record import Outcome, Phase

__all__ = ["watched"]

RANGE_S = 120
TITLES = {panel["title"]: panel for panel in panels(DASHBOARDS["run"])}


def answer_to(server: Prometheus, target: Json, run: Started) -> list[Json]:
    """Ask as Grafana does; return the labels and the values of each series."""
    chosen = {"$run_id": run.folder.name, "$runs": ".*", "$__rate_interval": "30s", "$__range": f"{RANGE_S}s"}
    chosen |= dict.fromkeys(("$engine", "$model", "$instance", "$gpu"), ".*")
    expression = target["expr"]
    for name, value in chosen.items():
        expression = expression.replace(name, value)
    assert "$" not in expression.replace("$1", ""), expression  # a group of label_replace
    if target.get("instant"):
        return [one | {"values": [one["value"]]} for one in server.query(expression)]
    now = time.time()
    found: list[Json] = server.get("query_range", query=expression, start=now - RANGE_S, end=now, step=1)["result"]
    return found


def asked(server: Prometheus, target: Json, run: Started) -> list[list[float]]:
    """Return the values of each series of an answer."""
    return [[float(value) for _, value in one["values"]] for one in answer_to(server, target, run)]


def values_of(server: Prometheus, variable: Json) -> list[str]:
    """Ask for the values of a variable."""
    asks = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["definition"])
    assert asks is not None, variable
    match = re.sub(r"\$\w+", ".*", asks.group(1))
    found: list[str] = server.get(f"label/{asks.group(2)}/values", **{"match[]": match})
    return found


def faults(seen: Watched, targets: list[Json]) -> Iterator[str]:
    """Tell the queries that have no answer for any run, and those whose answer is not a number."""
    for target in targets:
        answers = [asked(seen.server, target, run) for run in seen.runs]
        if not any(answers):
            yield f"no answer: {target['expr']}"
        if any(value != value for series in answers for values in series for value in values):  # noqa: PLR0124
            yield f"not a number: {target['expr']}"


@each_dashboard
def test_every_query_has_an_answer_and_none_is_not_a_number(
    watched: Watched, name: str, record_property: Callable[[str, str], None]
) -> None:
    board = DASHBOARDS[name]
    shown, variables = panels(board), asking_variables(board)
    targets = [target for panel in shown for target in panel["targets"]]
    assert list(faults(watched, targets + annotations(board))) == []
    assert [variable["name"] for variable in variables if not values_of(watched.server, variable)] == []
    counted = f"{len(shown)} panels, {len(targets)} queries, {len(annotations(board))} annotations"
    record_property(FIGURE, f"{board['title']}: {counted} and {len(variables)} variables have answers")


@each_dashboard
def test_a_metric_that_is_renamed_is_found(watched: Watched, name: str) -> None:
    targets = [target for panel in panels(DASHBOARDS[name]) for target in panel["targets"]]
    targets += annotations(DASHBOARDS[name])
    for metric in sorted(set().union(*(names_of(target["expr"]) for target in targets))):
        renamed = re.compile(rf"\b{metric}(?=\b|_bucket|_sum|_count)")
        asking = [target for target in targets if renamed.search(target["expr"])]
        changed = [target | {"expr": renamed.sub(f"{metric}_s", target["expr"])} for target in asking]
        assert next(faults(watched, changed), None) is not None, metric


def test_figures_of_the_whole_run_are_those_of_its_summary(watched: Watched) -> None:
    for run in watched.runs:
        counted = run.summary["requests"]
        ((share,),) = asked(watched.server, TITLES["Failed so far"]["targets"][0], run)
        ended = counted["completed"] + counted["failed"] + counted["aborted"] + counted["dropped"]
        assert share == pytest.approx(1 - counted["completed"] / ended)


def test_percentiles_of_the_whole_run_are_those_of_its_records_and_its_summary(watched: Watched) -> None:
    figures = {
        "TTFT": ("ttft_ms", metrics.ttft_ms),
        "TPOT": ("tpot_ms", metrics.tpot_ms),
        "E2E": ("e2e_ms", metrics.e2e_ms),
    }
    for run in (watched.sweep, watched.steady):
        answers = [r for r in run.records if r.phase is Phase.MEASURE and r.outcome is Outcome.OK]
        for name, (key, of) in figures.items():
            values = [value for r in answers if (value := of(r)) is not None]
            for target in TITLES[f"{name} of the run so far"]["targets"]:
                which, answered = target["legendFormat"], asked(watched.server, target, run)
                if len(values) < SMALLEST_SAMPLE[which]:
                    assert answered == []
                    continue
                ((value,),) = answered
                exact = percentile(values, QUANTILES[which])
                # Prometheus takes the rank before: in a sparse tail its value is far from the next one.
                ordered, at = sorted(values), index_of(len(values), QUANTILES[which])
                assert ordered[max(0, at - 1)] / 1.11 <= value * 1000 <= exact * 1.11
                told = run.summary["latency"][key].get(which)  # not told where the answers depend on each other
                assert told is None or told == pytest.approx(exact)
    assert {"p50", "p90"} <= set(watched.steady.summary["latency"]["ttft_ms"])


def test_a_heat_map_has_the_buckets_around_its_values_and_none_without_a_bound(watched: Watched) -> None:
    (target,) = TITLES["TTFT distribution"]["targets"]
    series = answer_to(watched.server, target, watched.sweep)
    bounds = sorted(float(one["metric"]["le"]) for one in series)
    measured = [r for r in watched.sweep.records if r.phase is Phase.MEASURE and r.outcome is Outcome.OK]
    values = [value / 1000 for r in measured if (value := metrics.ttft_ms(r)) is not None]
    assert min(values) / 2 < bounds[0] < min(values)
    assert max(values) < bounds[-1] < 2 * max(values)
    assert len({len(one["values"]) for one in series}) == 1  # Grafana subtracts one from the next, by position


def test_the_engine_tells_of_the_tokens_that_the_client_got(watched: Watched) -> None:
    told = watched.server.value(f'max_over_time(engine:generation_tokens_total{{engine_kind="llamacpp"}}[{RANGE_S}s])')
    got = sum(record.output_tokens or 0 for record in watched.sweep.records)
    assert told is not None
    assert 0 <= told - got <= 16  # a request before the first tries the server


def test_energy_is_power_over_time(watched: Watched) -> None:
    for joule_per_s in watched.server.query("rate(gpu_energy_joules_total[15s])"):
        assert float(joule_per_s["value"][1]) == pytest.approx(300, rel=0.1)
    assert watched.server.value("count(gpu_power_watts == 300)") == 2


def test_the_cost_of_tokens_is_that_of_two_gpus_at_the_price_that_was_named(watched: Watched) -> None:
    titles = {panel["title"]: panel["targets"][0] for panel in panels(DASHBOARDS["engine-and-gpu"])}
    both = "({}) * ({})".format(
        titles["Cost of a million output tokens"]["expr"],
        titles["Output tokens per second, by the client"]["expr"],
    )
    (values,) = asked(watched.server, {"expr": both}, watched.sweep)
    assert values == pytest.approx([1e6 * 2 * 2.5 / 3600] * len(values))
