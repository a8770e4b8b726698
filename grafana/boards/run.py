"""The dashboard of one run: what it does to the engine, and what its clients get."""

from boards.dashboard import STEPS, Dashboard, run_variables
from boards.panels import (
    NO_ENGINE,
    NO_ENGINE_VALUE,
    Panel,
    Query,
    Row,
    bars,
    coloured,
    graph,
    heat_map,
    table,
    tile,
    timeline,
)
from boards.queries import RUN, cells, in_order_of, percentile_now, percentiles, percentiles_so_far, rate, so_far
from loadgen.metrics import EXPORTED, FROM_SEND, Metric

MOST_BESIDE = 4
"""Tiles of percentiles in a line."""

FAILED = f'{RUN}, outcome!="ok"'
_WIDE = "Accurate to 11 %, the width of a bucket; quote the figures of the run's summary.json. A gap: too few values."
_STEPS_BY_USERS = in_order_of("users", f"llmload_step_active{{{RUN}}}")
_VERDICTS = {"VALID": "green", "WARN": "orange", "INVALID": "red", "INCONCLUSIVE": "purple"}


def _now() -> Row:
    state = Query(f"last_over_time(llmload_run_state{{{RUN}}}[$__range]) == 1", "{{state}}", instant=True)
    verdict = Query(f"last_over_time(llmload_verdict{{{RUN}}}[$__range]) == 1", "{{status}}", instant=True)
    failed, all_of_them = so_far("llmload_requests_total", FAILED), so_far("llmload_requests_total")
    tokens = rate("llmload_tokens_total", f'{RUN}, type="output"')
    verdict_colours = [coloured(name, colour) for name, colour in _VERDICTS.items()]
    tiles = [
        tile("State", "What the run is doing.", "none", [state], words=True, no_value="No such run in this time range"),
        tile(
            "Verdict so far",
            "By the checks that can be made during a run; the final verdict has more.",
            "none",
            [verdict],
            words=True,
            overrides=verdict_colours,
        ),
        tile(
            "Step",
            "Number of the present step of the load.",
            "none",
            [Query(f"max (llmload_step{{{RUN}}}) + 1")],
            no_value="No steps",
        ),
        tile(
            "Output tokens/s",
            "Of the answers that end, now. An answer's tokens count when it ends.",
            "suffix: tok/s",
            [Query(tokens)],
            defaults={"decimals": 0},
        ),
        tile(
            "Failed so far",
            "Share of the measured requests that failed.",
            "percentunit",
            [Query(f"{failed} / ({all_of_them} > 0)", instant=True)],
            steps={None: "green", 0.0001: "orange", 0.05: "red"},
            no_value="No request has ended",
        ),
        tile(
            "Within the SLO so far",
            "Share of the measured requests that ended well and within all limits.",
            "percentunit",
            [Query(f"{so_far('llmload_good_requests_total')} / ({all_of_them} > 0)", instant=True)],
            no_value="No --slo",
        ),
    ]
    return Row("Now", [*tiles, *(_whole(metric) for metric in EXPORTED), _objections()])


def _objections() -> Panel:
    asked = f"max by (check, status) (last_over_time(llmload_objection{{{RUN}}}[$__range])) == 1"
    return table(
        "What the verdict objects to",
        "Checks that are not ok, so far or in the end; the report has their values and what to do.",
        "none",
        {"There": Query(asked, form="table", instant=True)},
        renamed={"check": "Check", "status": "Status"},
        without=["There"],
        width=24,
        height=4,
        no_value="Nothing so far",
    )


def _whole(metric: Metric) -> Panel:
    return tile(
        f"{metric.label} of the run so far",
        f"{metric.about} Over all steps so far. {_WIDE}",
        "s",
        percentiles_so_far(metric.histogram),
        width=24 // min(len(EXPORTED), MOST_BESIDE),
        no_value="No answer",
    )


def _load() -> Row:
    busy = [
        Query(f"sum (llmload_in_flight_requests{{{RUN}}})", "in flight"),
        Query(f"sum (llmload_users{{{RUN}}})", "users"),
        Query(f"max (llmload_target_users{{{RUN}}})", "users asked for"),
    ]
    well = rate("llmload_requests_total", f'{RUN}, outcome="ok"')
    per_minute = [
        Query(f"60 * {rate('llmload_requests_started_total')}", "started"),
        Query(f"60 * {well}", "succeeded"),
        Query(f"60 * max (llmload_target_request_rate{{{RUN}}})", "asked for"),
    ]
    return Row(
        "Load",
        [
            graph(
                "Users and requests in flight",
                "Users of a closed loop, and the requests that wait for the end of their answer.",
                "none",
                busy,
                width=8,
            ),
            graph(
                "Requests per minute",
                "Started, those of the warm-up among them; succeeded, measured ones only; asked for, in an open loop "
                "(60 times --rate).",
                "suffix: req/min",
                per_minute,
                width=8,
            ),
            timeline(
                "Steps",
                "Which step of the load is the present one.",
                [Query(f"max by (order, users) ({_STEPS_BY_USERS})", "{{users}} users")],
                width=8,
                no_value="No steps",
            ),
        ],
    )


def _engine_and_gpus() -> Row:
    """Return the least that has to be on this screen; the dashboard Engine and GPU has all."""
    no_gpu = "No GPU exporter is scraped"
    queue = [Query(f"sum (engine:requests_{state})", state) for state in ("running", "waiting")]
    busy = [
        Query("max by (gpu, uuid) (gpu_utilization_ratio)", "GPU {{gpu}}"),
        Query("max by (gpu, uuid) (gpu_memory_bandwidth_utilization_ratio)", "GPU {{gpu}} bandwidth"),
    ]
    small = {"width": 6, "height": 7}
    return Row(
        "Engine and GPUs, all that are scraped",
        [
            graph(
                "Engine's batch and queue",
                "Requests that the engine works on, and that wait in it.",
                "none",
                queue,
                no_value=NO_ENGINE,
                **small,
            ),
            graph(
                "KV cache in use, now",
                "Where it is full, requests wait or are preempted.",
                "percentunit",
                [Query("max by (instance) (engine:kv_cache_usage_ratio)", "{{instance}}")],
                defaults={"max": 1},
                no_value=NO_ENGINE_VALUE,
                **small,
            ),
            graph(
                "GPU utilisation",
                "Share of the time in which anything ran, and share of the memory's bandwidth.",
                "percentunit",
                busy,
                defaults={"max": 1},
                no_value=no_gpu,
                **small,
            ),
            graph(
                "GPU power",
                "Of each board.",
                "watt",
                [Query("max by (gpu, uuid) (gpu_power_watts)", "GPU {{gpu}}")],
                no_value=no_gpu,
                **small,
            ),
        ],
    )


def _open_loop() -> Row:
    about = "How late requests were sent. Above 1 ms, or 1 % of the TTFT, the load generator is too slow."
    lag = percentiles("llmload_schedule_lag_seconds")
    return Row("Open loop", [graph("Schedule lag", about, "s", lag, no_value="No open loop")])


def _latency() -> Row:
    panels = []
    for metric in EXPORTED:
        queries = percentiles(metric.histogram, exemplars=metric.from_send)
        panels.append(graph(metric.label, f"{metric.about} {_WIDE}", "s", queries))
        panels.append(
            heat_map(
                f"{metric.label} distribution",
                f"{metric.about} Buckets around the values of the whole run; values above 10 minutes are not shown.",
                cells(metric.histogram),
            )
        )
    return Row("Latency", panels)


def _tokens() -> Row:
    each = [Query(rate("llmload_tokens_total", f'{RUN}, type="{kind}"'), kind) for kind in ("input", "output")]
    output = rate("llmload_tokens_total", f'{RUN}, type="output"')
    means = [
        Query(f"{rate(f'llmload_{kind}_tokens_sum')} / ({rate(f'llmload_{kind}_tokens_count')} > 0)", kind)
        for kind in ("input", "output")
    ]
    return Row(
        "Tokens",
        [
            graph(
                "Tokens per second",
                "Of measured requests; they count when the answer ends, so a long answer's come all at once.",
                "suffix: tok/s",
                each,
                width=8,
            ),
            graph(
                "Output tokens per second per request in flight",
                "Waiting and prefill are in it, and tokens of failed requests are not: the speed of a running answer "
                "is 1 / TPOT.",
                "suffix: tok/s",
                [Query(f"{output} / (sum (llmload_in_flight_requests{{{RUN}}}) > 0)", "output")],
                width=8,
            ),
            graph(
                "Mean tokens of a request",
                "Of its prompt and of its answer.",
                "suffix: tokens",
                means,
                width=8,
            ),
        ],
    )


def _by_name() -> Row:
    """Return the figures of requests by the names that tasks give them."""
    well = rate("llmload_requests_by_name_total", f'{RUN}, outcome="ok"', "name")
    small = {"width": 6, "no_value": "No names"}
    return Row(
        "Requests by name",
        [
            graph(
                "Requests per minute by name",
                "Measured requests that succeeded, by the name that their task gives them; 32 names at most.",
                "suffix: req/min",
                [Query(f"60 * {well}", "{{name}}")],
                **small,
            ),
            *(
                graph(
                    f"{metric.label} p50 by name",
                    f"Median. {metric.about}",
                    "s",
                    [Query(percentile_now("p50", metric.histogram_by_name, RUN, "name"), "{{name}}")],
                    **small,
                )
                for metric in FROM_SEND
            ),
            graph(
                "Output tokens per second by name",
                "Output tokens of the answers that ended, per second.",
                "suffix: tok/s",
                [Query(rate("llmload_output_tokens_by_name_sum", by="name"), "{{name}}")],
                **small,
            ),
        ],
    )


def _errors() -> Row:
    kinds = Query(f"60 * {rate('llmload_errors_total', by='kind')} > 0", "{{kind}}")
    totals = Query(f"{so_far('llmload_errors_total', by='kind')} > 0", "{{kind}}", instant=True)
    return Row(
        "Errors",
        [
            graph(
                "Errors by kind",
                "Measured requests that failed. Aborted ones ended with the run; dropped ones were never "
                "sent; rate_limited is HTTP 429 or 529; with client_limit this machine had no local port or open file "
                "left.",
                "suffix: req/min",
                [kinds],
                stacked=True,
                no_value="No errors",
            ),
            bars("Errors so far", "The same, counted since the start.", "none", [totals], no_value="No errors"),
        ],
    )


def _goodput() -> Row:
    good, ended = rate("llmload_good_requests_total"), rate("llmload_requests_total")
    return Row(
        "Goodput: what keeps the limits of --slo",
        [
            graph(
                "Goodput",
                "Measured requests that end well and within all limits, beside all that end.",
                "suffix: req/min",
                [Query(f"60 * {good}", "within the SLO"), Query(f"60 * {ended} and {good}", "all that end")],
                width=8,
                no_value="No --slo",
            ),
            graph(
                "Share within the SLO",
                "Of the measured requests that end.",
                "percentunit",
                [Query(f"{good} / ({ended} > 0)", "within the SLO")],
                width=8,
                defaults={"max": 1},
                no_value="No --slo",
            ),
            graph(
                "Misses by limit",
                "Answers beyond a limit; one that is beyond two counts for both. Failed requests keep no limit, and "
                "are not in it.",
                "suffix: req/min",
                [Query(f"60 * {rate('llmload_slo_miss_total', by='slo')}", "{{slo}}")],
                width=8,
                no_value="No --slo",
            ),
        ],
    )


DASHBOARD = Dashboard(
    uid="llmload-run",
    title="Run",
    about="One run of the load generator: load, engine and GPUs, latency, tokens, errors and goodput.",
    rows=[_now(), _load(), _engine_and_gpus(), _latency(), _tokens(), _by_name(), _errors(), _goodput(), _open_loop()],
    variables=run_variables(),
    annotations=STEPS,
)
