"""The tables that answer what a run under load asked: throughput, its steps, and an open loop's rate."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from loadgen.metrics import (
    FROM_SEND,
    OUTPUT_TOKENS_PER_SECOND,
    PERCENTILES_SHOWN,
    REQUESTS_PER_MINUTE,
    THINK,
    TPOT,
    TTFT,
    Metric,
)
from loadgen.printable import counted
from loadgen.results.table import Table
from loadgen.results.text import ABSENT, estimate, number, percent, short, short_estimate

Summary = Mapping[str, Any]
Step = Mapping[str, Any]
Column = tuple[str, Callable[[Step], str]]


def throughput_table(summary: Summary) -> Table:
    """Return the specification's throughput table, with one cell: the best step's."""
    best, steps = summary["throughput"], summary["steps"]
    rate = short_estimate(best["requests_per_minute"])
    rows = [(str(summary["model"]), rate if rate == ABSENT else f"{rate} at {counted(best['at_concurrency'], 'user')}")]
    if steps:
        tokens = best.get("output_tokens_per_second", steps[0]["output_tokens_per_second"])
        rows.append(("output tokens/s at that", short(tokens)))
    if slo := next((step["goodput"]["slo"] for step in steps if step.get("goodput")), None):
        rows.append((f"requests/min within {slo}", _within(best.get("goodput"))))
    if len(steps) == 1:
        rows.append(("window, s", number(steps[0]["window_seconds"], 1)))
        if (think_ms := steps[0].get(THINK.key)) is not None:
            rows.append((THINK.heading, short(think_ms)))
    note = "Closed loop: each user waits for an answer before the next question. " + _counted(summary)
    if len(plateau := best.get("plateau") or ()) > 1:
        users = ", ".join(f"{n:,}" for n in plateau)
        note += (
            f" The mean of the steps of {users} users: at most 2 % below the best, and no further than chance explains."
        )
    if len(steps) > 1 and not best["requests_per_minute"]:
        note += " None: no step was steady and long enough."
    if knee := best.get("knee"):
        note += f" Knee: {knee['text']}."
    elif len(steps) > 1:
        note += " No knee: throughput still grew, or there are too few steps."
    column = f"{summary['engine']}, requests/min [95 % interval]"
    return Table("Throughput", ("model", column), tuple(rows), note + rounds_note(summary))


def _counted(summary: Summary) -> str:
    """Say in which window a closed loop's answers count, and why there is no interval of users who think."""
    if summary.get("users_changed"):
        return "No figure: the number of users was changed during the run, so it is of no number of users."
    steps = summary["steps"]
    if not steps:
        return "No figure: there was no time in which all users were at work."
    if not any(THINK.key in step for step in steps):
        return "Counted while all users were waiting, from 30 answers on."
    note = "Users think between their requests: each answer counts over its user's cycle of think time and request. "
    note += "Counted while all users were in their cycles, from 30 answers on."
    why = steps[0].get("no_interval") if len(steps) == 1 else None
    return note if why is None else f"{note} No interval: {why}; more --requests, or a longer --run-time."


def _within(goodput: Mapping[str, Any] | None) -> str:
    """Write the most that was served within the limits, and where."""
    if goodput is None:
        return "kept at no step by enough of the requests"
    at = f" at {counted(goodput['at_concurrency'], 'user')}" if goodput.get("at_concurrency") else ""
    return f"{short(goodput['requests_per_minute'])}{at}, {percent(goodput['share'])} of the requests"


_NOTES = "notes"
_PER_MINUTE = f"{REQUESTS_PER_MINUTE.label} [95 % interval]"
_FOR_TERMINALS = {"users", _PER_MINUTE, OUTPUT_TOKENS_PER_SECOND.label, "within limits"}
_FOR_TERMINALS |= {TTFT.percentile_heading("p50"), TTFT.percentile_heading("p99"), TPOT.percentile_heading("p50")}


def steps_table(summary: Summary) -> Table:
    """Return the concurrency table; what no step has is no column of it."""
    steps = summary["steps"]
    columns: list[Column] = [
        ("users", lambda step: f"{step['concurrency']:,}"),
        (_PER_MINUTE, lambda step: short_estimate(step.get(REQUESTS_PER_MINUTE.key))),
        (OUTPUT_TOKENS_PER_SECOND.label, lambda step: short(step.get(OUTPUT_TOKENS_PER_SECOND.key))),
        *_think_time(steps),
        *(_percentile_column(*which) for which in PERCENTILES_SHOWN if any(_has(step, which[0]) for step in steps)),
    ]
    if any(step.get("goodput") for step in steps):
        columns.append(("within limits", lambda step: percent((step.get("goodput") or {}).get("share"))))
    columns += [
        ("failed", lambda step: number(step.get("failed"), 0)),
        ("window, s", lambda step: number(step.get("window_seconds"), 1)),
    ]
    if any(_notes(step) for step in steps):
        columns.append((_NOTES, _notes))
    names = tuple(name for name, _ in columns)
    has_failed = any(step.get("failed") for step in steps)
    for_terminals = _FOR_TERMINALS - {TTFT.percentile_heading("p99")} | {"failed"} if has_failed else _FOR_TERMINALS
    return Table(
        "Steps: throughput by concurrent users",
        names,
        tuple(tuple(cell(step) for _, cell in columns) for step in steps),
        "Throughput is of all that was served in a step's window, latencies are of the requests sent in it.",
        words=tuple(i for i, name in enumerate(names) if name == _NOTES),
        wide=tuple(i for i, name in enumerate(names) if name not in for_terminals),
    )


def _think_time(steps: Sequence[Step]) -> list[Column]:
    """Return the column of the mean think time, where users think."""
    if not any(THINK.key in step for step in steps):
        return []
    return [(THINK.heading, lambda step: short(step.get(THINK.key)))]


def _has(step: Step, metric: Metric) -> bool:
    return bool((step.get("latency") or {}).get(metric.key, {}).get("n"))


def _percentile_column(metric: Metric, p: str) -> Column:
    return metric.percentile_heading(p), lambda step: short((step.get("latency") or {}).get(metric.key, {}).get(p))


def _notes(step: Step) -> str:
    """Say what a reader has to know of a step's figures."""
    found = []
    if step.get("steady") is False:
        found.append(f"not steady: {step['unsteady']}" if step.get("unsteady") else "not steady")
    elif step.get("undecided"):
        found.append("too short to tell whether it was steady")
    if step.get("ended_by") == "broken off":
        found.append("broken off")
    latency = step.get("latency") or {}
    refused = [m.label for m in FROM_SEND if "p99" in latency.get(m.key, {}).get("not_resolvable", ())]
    if refused:
        found.append(f"p99 of {' and '.join(refused)} not resolvable")
    return "; ".join(found)


def rate_table(summary: Summary) -> Table:
    """Return what an open loop was asked for and what came of it."""
    rate = summary["rate"]
    served, cap = rate.get("requests_per_minute"), rate.get("max_in_flight")
    rows = [
        ("asked, requests/s", number(rate["asked_per_second"])),
        ("served, requests/s [95 % interval]", estimate(_scaled(served, 1 / 60))),
        ("served, requests/min [95 % interval]", short_estimate(served)),
        ("output tokens/s", short(rate.get("output_tokens_per_second"))),
        ("scheduled", number(rate.get("scheduled"), 0)),
        ("dropped" if cap is None else f"dropped, at {cap:,} in flight", number(rate.get("dropped"), 0)),
    ]
    if goodput := rate.get("goodput"):
        rows.append((f"requests/min within {goodput['slo']}", _within(goodput)))
    cv = "" if rate.get("cv") is None else f" (coefficient of variation {rate['cv']:g})"
    note = f"Open loop: requests begin by a schedule of {rate['process']} arrivals{cv}, whatever the answers."
    if rate.get("unsteady"):
        note += f" Not steady: {rate['unsteady']}."
    elif rate.get("undecided"):
        note += f" Steady or not: {rate['undecided']}."
    return Table("Rate", ("", f"{summary['model']} on {summary['engine']}"), tuple(rows), note + rounds_note(summary))


def rate_latency_table(summary: Summary) -> Table:
    """Return latencies from the schedule and from the send side by side: what is between them waited before us."""
    rate = summary["rate"]
    due, sent, lag = (rate.get(key) or {} for key in ("latency_from_schedule", "latency_from_send", "send_lag_ms"))
    rows = [
        (f"{metric.label}, from the {origin}", *(number((of.get(metric.key) or {}).get(p)) for p in _SIDE_BY_SIDE))
        for metric in FROM_SEND
        for origin, of in (("schedule", due), ("send", sent))
        if (of.get(metric.key) or {}).get("n")
    ]
    if rows:
        rows.append(("sent after its time", *(number(lag.get(p)) for p in _SIDE_BY_SIDE)))
    columns = ("", *_SIDE_BY_SIDE.values())
    few = ""
    if (needed := rate.get("run_time_needed_s")) is not None:
        few = f" No intervals: the queue came and went {rate['queueing_episodes']:g} times, too seldom to tell. "
        few += f"Run it {needed:,} s or longer after the warm-up transient."
    note = f"{ABSENT}: not resolvable, too few independent values. A stall of the server shows in both; what waited "
    note += "in the load generator shows from the schedule only. Observed: of these requests, no estimate of others."
    return Table("Latency from the schedule and from the send, ms", columns, tuple(rows), note + few)


_SIDE_BY_SIDE = {"mean": "mean", "p50": "p50", "p90": "p90", "p99": "p99", "observed_p99": "observed p99", "max": "max"}


def _scaled(value: Mapping[str, Any] | None, factor: float) -> dict[str, Any] | None:
    if value is None or value.get("value") is None:
        return None
    ci = value.get("ci95")
    return {"value": value["value"] * factor, "ci95": ci and [end * factor for end in ci]}


def rounds_note(summary: Summary) -> str:
    """Say so where prompts were asked more than once: an engine may have cached them."""
    sample = summary["sample"]
    if sample["rounds"] <= 1:
        return ""
    return f" The sample of {sample['prompts']} prompts was sent {sample['rounds']} times, in a seeded order."
