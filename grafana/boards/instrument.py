"""The dashboard of the load generator itself: whether it was up to the load."""

from boards.dashboard import STEPS, Dashboard, run_variables
from boards.names import ALERTS
from boards.panels import Json, Panel, Query, Row, graph, table, tile, timeline
from boards.queries import RUN, rate, so_far

_EACH = "process {{worker}}"
_OURS = f'alertname=~"{"|".join(ALERTS)}"'


def _of_workers(title: str, about: str, unit: str, expr: str, limit: float | None) -> Panel:
    steps: list[Json] = [{"color": "transparent", "value": None}]
    steps += [] if limit is None else [{"color": "red", "value": limit}]
    defaults: Json = {"thresholds": {"mode": "absolute", "steps": steps}}
    custom = {"lineWidth": 1, "fillOpacity": 0, "showPoints": "auto", "spanNulls": False}
    defaults |= {"custom": custom | {"thresholdsStyle": {"mode": "off" if limit is None else "dashed"}}}
    return graph(title, about, unit, [Query(expr, _EACH)], defaults=defaults)


def _lag(quantile: str) -> str:
    buckets = rate("llmload_worker_event_loop_lag_seconds_bucket", by="worker, le")
    return f"histogram_quantile({quantile}, {buckets}) >= 0"


def _now() -> Row:
    verdict = Query(f"max by (status) (llmload_verdict{{{RUN}}})", "{{status}}")
    coalesced, chunks = so_far("llmload_coalesced_chunks_total"), so_far("llmload_chunks_total")
    return Row(
        "Verdict and alerts",
        [
            timeline("Verdict so far", "By what is known at the time.", [verdict], height=6),
            timeline(
                "Alerts",
                "Of grafana/prometheus/rules: the load generator is the bottleneck, a process is silent, errors, an "
                "engine is gone.",
                [
                    Query(
                        f'max by (alertname) (ALERTS{{alertstate="firing", {_OURS}, run_id=~"$run_id|"}})',
                        "{{alertname}}",
                    )
                ],
                colour="red",
                height=6,
                no_value="None fires",
            ),
            tile(
                "Processes",
                "That make requests: ready ones, and lost ones, whose requests are missing.",
                "none",
                [
                    Query(
                        f"max by (state) (last_over_time(llmload_workers{{{RUN}}}[$__range]))",
                        "{{state}}",
                        instant=True,
                    )
                ],
                width=12,
            ),
            tile(
                "Chunks sharing a read, so far",
                "Share of the chunks that were read at once with a later chunk: their times are less exact.",
                "percentunit",
                [Query(f"{coalesced} / ({chunks} > 0)", instant=True)],
                width=12,
                no_value="No stream was read token by token",
            ),
        ],
    )


def _processes() -> Row:
    together, chunks = rate("llmload_coalesced_chunks_total"), rate("llmload_chunks_total")
    return Row(
        "Processes",
        [
            _of_workers(
                "Event-loop lag, p99",
                "How late a process's loop is, accurate to a third. Above 5 ms the verdict warns, above 20 ms there is "
                "an alert.",
                "s",
                _lag("0.99"),
                0.005,
            ),
            _of_workers("Event-loop lag, median", "The same, its median.", "s", _lag("0.5"), None),
            _of_workers(
                "Event-loop lag, maximum", "The same, at its worst: the bound of the bucket.", "s", _lag("1"), None
            ),
            _of_workers(
                "CPU",
                "CPU time over wall time. Above 80 % of a core the verdict warns, above 85 % there is an alert: use "
                "more processes.",
                "percentunit",
                f"max by (worker) (llmload_worker_cpu_ratio{{{RUN}}})",
                0.8,
            ),
            _of_workers(
                "Age of the last report",
                "Since a process reported. Above 10 s it is an alert: what it measured meanwhile is missing so far.",
                "s",
                f"max by (worker) (llmload_worker_report_age_seconds{{{RUN}}})",
                10,
            ),
            _of_workers(
                "Requests in flight",
                "How even the load is.",
                "none",
                f"max by (worker) (llmload_worker_in_flight_requests{{{RUN}}})",
                None,
            ),
            _of_workers("Users", "Of a closed loop.", "none", f"max by (worker) (llmload_worker_users{{{RUN}}})", None),
            graph(
                "Chunks sharing a read",
                "Share of the chunks of streams, now.",
                "percentunit",
                [Query(f"{together} / ({chunks} > 0)", "of the chunks")],
                no_value="No stream is read token by token",
            ),
            graph(
                "Processes",
                "That make requests.",
                "none",
                [Query(f"max by (state) (llmload_workers{{{RUN}}})", "{{state}}")],
            ),
        ],
    )


def _run() -> Row:
    about = "Caveat: why its figures must not be quoted, as that the engine was simulated or its weights random."
    labels = ("run_id", "model", "engine", "endpoint", "kind", "dataset", "reservation")
    asked = Query(
        f"max by ({', '.join(labels)}) (last_over_time(llmload_run_info{{{RUN}}}[$__range]))",
        form="table",
        instant=True,
    )
    renamed = dict(zip(labels, ("Run", "Model", "Engine", "Endpoint", "Kind", "Prompts", "Caveat"), strict=True))
    return Row(
        "Run",
        [table("This run", about, "none", {"There": asked}, renamed=renamed, without=["There"], width=24, height=4)],
    )


DASHBOARD = Dashboard(
    uid="llmload-instrument",
    title="Instrument",
    about="The load generator itself: whether what it says of a run can be believed.",
    rows=[_now(), _processes(), _run()],
    variables=run_variables(),
    annotations=STEPS,
)
