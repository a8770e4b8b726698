"""The tables that answer what a run under load asked: throughput, its steps, and an open loop's rate."""

from collections.abc import Callable

from msgspec.structs import replace

from loadgen.measure.limits import ENOUGH_REQUESTS, ROUND_TRIPS
from loadgen.metrics import (
    FROM_SEND,
    LIMITS,
    OUTPUT_TOKENS_PER_SECOND,
    PERCENTILES_SHOWN,
    REQUESTS_PER_MINUTE,
    THINK,
    TPOT,
    TTFT,
    Metric,
)
from loadgen.printable import counted
from loadgen.results.summary_schema import Figure, Goodput, Latency, Served, StepSummary, Summary, ThroughputSummary
from loadgen.results.table import Table
from loadgen.results.text import ABSENT, estimate, few_note, number, percent, percentile, short, short_estimate

Column = tuple[str, Callable[[StepSummary], str]]

_PER_MINUTE = f"{REQUESTS_PER_MINUTE.label} [95 % interval]"


def throughput_table(summary: Summary) -> Table:
    """Return the specification's throughput table, with one cell: the best step's, and of a sweep its latency."""
    best, steps = summary.throughput, summary.steps or []
    assert best is not None
    rate, users = short_estimate(best.requests_per_minute), counted(best.at_concurrency or 0, "user")
    rows = [(summary.model, rate if rate == ABSENT else f"{rate} at {users}")]
    if steps:
        only = steps[0].output_tokens_per_second if best.requests_per_minute is None else best.output_tokens_per_second
        rows.append((f"{OUTPUT_TOKENS_PER_SECOND.label} at that", short(only)))
    if len(steps) > 1 and best.latency:
        rows.append((f"{_MEDIANS} at that", _medians(best.latency)))
    if len(steps) > 1 and best.knee is not None and best.knee.latency:
        at = counted(best.knee.between[1], "user")
        rows.append((f"{_MEDIANS} above the knee, at {at}", _medians(best.knee.latency)))
    if slo := next((step.goodput.slo for step in steps if step.goodput), None):
        rows.append((f"{REQUESTS_PER_MINUTE.label} within {slo}", _within(best.goodput)))
    if len(steps) == 1:
        rows.append(("window, s", number(steps[0].window_seconds, 1)))
        if steps[0].think_ms is not None:
            rows.append((THINK.heading, short(steps[0].think_ms)))
    column = f"{summary.engine}, {_PER_MINUTE}"
    return Table("Throughput", ("model", column), tuple(rows), _throughput_note(summary, best) + rounds_note(summary))


def _rough_because(served: Served) -> str:
    """Return why an interval is rough: a long window has a better one, unless throughput varied slowly in it."""
    is_long = (served.round_trips or 0) >= ROUND_TRIPS and (served.answers or 0) >= ENOUGH_REQUESTS
    why = "throughput varied slowly within the window" if is_long else "few round trips in the window"
    return f"rough interval: {why}"


_MEDIANS = f"{', '.join(metric.label for metric in LIMITS)}, p50, ms"


def _medians(latency: Latency) -> str:
    return " / ".join(percentile(latency.get(metric.key), "p50", short) for metric in LIMITS)


def _throughput_note(summary: Summary, best: ThroughputSummary) -> str:
    note = "Closed loop: each user waits for an answer before the next question. " + _counted(summary)
    if len(best.plateau) > 1:
        users = ", ".join(f"{n:,}" for n in best.plateau)
        note += (
            f" The mean of the steps of {users} users: at most 2 % below the best, and no further than chance explains."
        )
    if summary.is_sweep and not best.requests_per_minute:
        note += " None: no step was steady and long enough."
    if best.knee is not None:
        note += f" Knee: {best.knee.text}."
    elif summary.is_sweep:
        note += " No knee: throughput still grew, or there are too few steps."
    return note


def _counted(summary: Summary) -> str:
    """Say in which window a closed loop's answers count, and why its interval is missing or rough, if so."""
    if summary.users_changed:
        return "No figure: the number of users was changed during the run, so it is of no number of users."
    steps = summary.steps or []
    if not steps:
        return "No figure: there was no time in which all users were at work."
    note = "Throughput counts while every user has a request in flight; it needs three round trips."
    if any(step.think_ms is not None for step in steps):
        note = (
            "Users think between their requests: each answer counts over its user's cycle of think time and request. "
        )
        note += "Throughput counts while all users are in their cycles; it needs three cycles."
    if len(steps) > 1:
        return note
    if steps[0].no_interval is not None:
        return f"{note} No interval: {steps[0].no_interval}; more --requests, or a longer --run-time."
    if steps[0].rough:
        why = _rough_because(steps[0])
        note += f" {why[0].upper()}{why[1:]}. It takes more --requests, or a longer --run-time."
    return note


def _within(goodput: Goodput | None) -> str:
    """Write the most that was served within the limits, and where."""
    if goodput is None:
        return "kept at no step by enough of the requests"
    at = f" at {counted(goodput.at_concurrency, 'user')}" if goodput.at_concurrency else ""
    return f"{short(goodput.requests_per_minute)}{at}, {percent(goodput.share)} of the requests"


_NOTES = "notes"
_FOR_TERMINALS = {"users", _PER_MINUTE, OUTPUT_TOKENS_PER_SECOND.label, "within limits"}
_FOR_TERMINALS |= {TTFT.percentile_heading("p50"), TTFT.percentile_heading("p99"), TPOT.percentile_heading("p50")}


def steps_table(summary: Summary) -> Table:
    """Return the concurrency table; what no step has is no column of it."""
    steps = summary.steps or []
    columns: list[Column] = [
        ("users", lambda step: f"{step.concurrency:,}"),
        (_PER_MINUTE, lambda step: short_estimate(step.requests_per_minute)),
        (OUTPUT_TOKENS_PER_SECOND.label, lambda step: short(step.output_tokens_per_second)),
        *([(THINK.heading, _think_time)] if any(step.think_ms is not None for step in steps) else []),
        *(_percentile_column(*which) for which in PERCENTILES_SHOWN if any(_has(step, *which) for step in steps)),
    ]
    if any(step.goodput for step in steps):
        columns.append(("within limits", lambda step: percent(None if step.goodput is None else step.goodput.share)))
    columns += [
        ("failed", lambda step: number(step.failed, 0)),
        ("window, s", lambda step: number(step.window_seconds, 1)),
    ]
    if any(_notes(step) for step in steps):
        columns.append((_NOTES, _notes))
    names = tuple(name for name, _ in columns)
    has_failed = any(step.failed for step in steps)
    for_terminals = _FOR_TERMINALS - {TTFT.percentile_heading("p99")} | {"failed"} if has_failed else _FOR_TERMINALS
    rows = tuple(tuple(cell(step) for _, cell in columns) for step in steps)
    note = "Throughput is of all that was served in a step's window, latencies are of the requests sent in it."
    return Table(
        "Steps: throughput by concurrent users",
        names,
        rows,
        f"{note} {few_note(rows)}".rstrip(),
        words=tuple(i for i, name in enumerate(names) if name == _NOTES),
        wide=tuple(i for i, name in enumerate(names) if name not in for_terminals),
    )


def _think_time(step: StepSummary) -> str:
    return short(step.think_ms)


def _has(step: StepSummary, metric: Metric, p: str) -> bool:
    return metric.key in step.latency and step.latency[metric.key].percentile(p) is not None


def _percentile_column(metric: Metric, p: str) -> Column:
    return metric.percentile_heading(p), lambda step: percentile(step.latency.get(metric.key), p, short)


def _notes(step: StepSummary) -> str:
    """Say what a reader has to know of a step's figures."""
    found = []
    if step.steady is False:
        found.append(f"not steady: {step.unsteady}" if step.unsteady else "not steady")
    elif step.undecided:
        found.append("too short to tell whether it was steady")
    if step.ended_by == "broken off":
        found.append("broken off")
    if step.no_interval is not None:
        found.append(step.no_interval)
    elif step.rough:
        found.append(_rough_because(step))
    return "; ".join(found)


def rate_table(summary: Summary) -> Table:
    """Return what an open loop was asked for and what came of it."""
    rate = summary.rate
    assert rate is not None
    served = rate.requests_per_minute
    rows = [
        ("offered, requests/s", number(rate.asked_per_second)),
        ("served, requests/s [95 % interval]", estimate(_scaled(served, 1 / 60))),
        (f"served, {_PER_MINUTE}", short_estimate(served)),
        (OUTPUT_TOKENS_PER_SECOND.label, short(rate.output_tokens_per_second)),
        ("scheduled", number(rate.scheduled, 0)),
        (f"dropped, at {rate.max_in_flight:,} in flight", number(rate.dropped, 0)),
    ]
    if rate.goodput:
        rows.append((f"{REQUESTS_PER_MINUTE.label} within {rate.goodput.slo}", _within(rate.goodput)))
    note = (
        f"Open loop: requests begin by a schedule of {rate.process} arrivals (coefficient of variation {rate.cv:g}), "
        "whatever the answers."
    )
    if rate.unsteady:
        note += f" Not steady: {rate.unsteady}."
    elif rate.undecided:
        note += f" Steady or not: {rate.undecided}."
    return Table("Rate", ("", f"{summary.model} on {summary.engine}"), tuple(rows), note + rounds_note(summary))


def rate_latency_table(summary: Summary) -> Table:
    """Return latencies from the schedule and from the send side by side: what is between them waited before us."""
    rate = summary.rate
    assert rate is not None
    rows = [
        (f"{metric.label}, from the {origin}", *(percentile(of.get(metric.key), p) for p in _SIDE_BY_SIDE))
        for metric in FROM_SEND
        for origin, of in (("schedule", rate.latency_from_schedule), ("send", rate.latency_from_send))
        if metric.key in of and of[metric.key].n
    ]
    if rows:
        rows.append(("send delay", *(percentile(rate.send_lag_ms, p) for p in _SIDE_BY_SIDE)))
    columns = ("", *_SIDE_BY_SIDE.values())
    few = ""
    if rate.run_time_needed_s is not None:
        few = f" No intervals: the queue came and went {rate.queueing_episodes:g} times, too seldom to tell. "
        few += f"Run it {rate.run_time_needed_s:,} s or longer after the warm-up transient."
    note = "A stall of the server shows in both; what waited in the load generator shows from the schedule only. "
    note += "Observed: of these requests, no estimate of others."
    note = f"{note}{few} {few_note(rows)}".rstrip()
    return Table("Latency from the schedule and from the send, ms", columns, tuple(rows), note)


_SIDE_BY_SIDE = {"mean": "mean", "p50": "p50", "p90": "p90", "p99": "p99", "observed_p99": "observed p99", "max": "max"}


def _scaled(value: Figure | None, factor: float) -> Figure | None:
    if value is None or value.value is None:
        return None
    ci95 = value.ci95 and (value.ci95[0] * factor, value.ci95[1] * factor)
    return replace(value, value=value.value * factor, ci95=ci95)


def rounds_note(summary: Summary) -> str:
    """Say so where prompts were asked more than once: an engine may have cached them."""
    sample = summary.sample
    if sample.rounds <= 1:
        return ""
    return f" The sample of {sample.prompts} prompts was sent {sample.rounds} times, in a seeded order."
