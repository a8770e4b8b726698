"""The dashboard of many runs: which there are, and their figures side by side."""

from boards.dashboard import Dashboard, run_variables
from boards.panels import Panel, Query, Row, changed, graph, table
from boards.queries import QUANTILES, RUNS, percentile_now, percentile_so_far, rate, so_far
from loadgen.measure.statistics import SMALLEST_SAMPLE
from loadgen.metrics import E2E, ITL, TPOT, TTFT, Metric

_FAILED = f'{RUNS}, outcome!="ok"'
_MEAN_OF = 'sum by (run_id) (rate(llmload_tokens_total{{{0}, type="output"}}[30s])) > 0'
_RUN = "/d/llmload-run/run?var-datasource=${datasource}&var-run_id=${__value.raw}"
_SPAN = "&from=${__data.fields.Started.numeric}&to=${__data.fields.Seen.numeric}"
_LINK = {"title": "Show this run", "url": _RUN + _SPAN, "targetBlank": False}
_LABELS = {"run_id": "Run", "engine": "Engine", "model": "Model", "kind": "Kind", "dataset": "Prompts"}
_LABELS |= {"reservation": "Reservation", "status": "Verdict"}


_COMPARED = (TTFT, TPOT, ITL, E2E)
"""What runs are compared by; the dashboard of one run has every figure that is exported."""


def _column(expr: str) -> Query:
    return Query(expr, form="table", instant=True)


def _runs() -> Row:
    info = f"last_over_time(llmload_run_info{{{RUNS}}}[$__range])"
    verdict = f"last_over_time(llmload_verdict{{{RUNS}}}[$__range]) == 1"
    began = f"last_over_time(llmload_run_start_timestamp_seconds{{{RUNS}}}[$__range])"
    # Looked at each 5 s: the last sample may be as much later.
    seen = f"max_over_time(timestamp(llmload_run_info{{{RUNS}}})[$__range:5s])"
    ended = so_far("llmload_requests_total", RUNS, "run_id")
    failed = so_far("llmload_requests_total", _FAILED, "run_id")
    columns = {
        "Started": f"floor(1000 * max by (run_id, engine, model, kind, dataset, reservation) "
        f"({info} * on (run_id) group_left () ({began})))",
        "Seen": f"ceil(1000 * (5 + max by (run_id) ({seen})))",
        "Judged": f"max by (run_id, status) ({verdict})",
        "Requests": ended,
        "Failed": f"{failed} / ({ended} > 0)",
        "Within SLO": f"{so_far('llmload_good_requests_total', RUNS, 'run_id')} / ({ended} > 0)",
        "Output": f"avg_over_time(({_MEAN_OF.format(RUNS)})[$__range:5s])",
    }
    overrides = [
        changed("Run", {"links": [_LINK], "custom.width": 260}),
        changed("Started", {"unit": "dateTimeAsIso"}),
        changed("Seen", {"unit": "dateTimeAsIso"}),
        changed("Failed", {"unit": "percentunit"}),
        changed("Within SLO", {"unit": "percentunit"}),
        changed("Output", {"unit": "suffix: tok/s", "decimals": 0}),
    ]
    about = (
        "Runs of this time range; a click on one shows it on its own dashboard. Output: mean of the output tokens per "
        "second while answers ended, the ramp included; the measured figure is in the run's summary.json. A run that "
        "has a reservation, as that the engine was simulated, must not be quoted."
    )
    sort = [{"displayName": "Started", "desc": True}]
    queries = {name: _column(expr) for name, expr in columns.items()}
    more = {"renamed": _LABELS, "overrides": overrides, "sort": sort, "without": ["Judged"], "width": 24, "height": 10}
    return Row("Runs", [table("Runs", about, "none", queries, **more, no_value="No runs in this time range")])


def _side_by_side(metric: Metric) -> Panel:
    queries = {p: _column(percentile_so_far(p, metric.histogram, RUNS, "run_id")) for p in QUANTILES}
    overrides = [changed("Run", {"unit": "none", "links": [_RUN_ONLY], "custom.width": 260})]
    overrides += [changed(p, {"custom.cellOptions": {"type": "gauge", "mode": "basic"}, "min": 0}) for p in QUANTILES]
    about = (
        f"{metric.label} of each whole run so far, accurate to 11 %, the width of a bucket; a sweep's over all of its "
        "steps together, so compare sweeps of the same steps only. Empty where there are too few values."
    )
    sort = [{"displayName": "p99", "desc": False}]
    return table(metric.label, about, "s", queries, renamed={"run_id": "Run"}, overrides=overrides, sort=sort)


_RUN_ONLY = {"title": "Show this run", "url": _RUN + "&${__url_time_range}", "targetBlank": False}


def _over_time() -> Row:
    failed, ended = rate("llmload_requests_total", _FAILED, "run_id"), rate("llmload_requests_total", RUNS, "run_id")
    return Row(
        "Over time",
        [
            graph(
                "Output tokens per second",
                "Of measured requests; they count when the answer ends.",
                "suffix: tok/s",
                [Query(rate("llmload_tokens_total", RUNS + ', type="output"', "run_id"), "{{run_id}}")],
            ),
            graph(
                f"{TTFT.label}, p99",
                f"{TTFT.about} A gap where there are fewer than {SMALLEST_SAMPLE['p99']} answers.",
                "s",
                [Query(percentile_now("p99", TTFT.histogram, RUNS, "run_id"), "{{run_id}}")],
            ),
            graph(
                "Requests in flight",
                "Requests that wait for the end of their answer.",
                "none",
                [Query(f"sum by (run_id) (llmload_in_flight_requests{{{RUNS}}})", "{{run_id}}")],
            ),
            graph(
                "Failed",
                "Share of the measured requests that end.",
                "percentunit",
                [Query(f"{failed} / ({ended} > 0)", "{{run_id}}")],
            ),
        ],
    )


DASHBOARD = Dashboard(
    uid="llmload-compare-runs",
    title="Compare runs",
    about="Runs of the load generator, and their figures side by side.",
    rows=[
        _runs(),
        Row("Percentiles, side by side", [_side_by_side(metric) for metric in _COMPARED]),
        _over_time(),
    ],
    variables=run_variables(several=True),
    since="now-24h",
    refresh="1m",
)
