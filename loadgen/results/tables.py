"""The tables of a report, made once from the summary; Markdown, HTML and the terminal only differ in how they draw."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from loadgen.measure.limits import ENOUGH_REQUESTS
from loadgen.results.names_table import names_table
from loadgen.results.table import Table
from loadgen.results.text import ABSENT, estimate, number, percent, short, short_estimate

Summary = Mapping[str, Any]

LATENCIES = {
    "ttft_ms": "TTFT: sent to first token",
    "tpot_ms": "TPOT: per later token",
    "itl_ms": "ITL: between tokens",
    "icl_ms": "ICL: between chunks of several tokens",
    "e2e_ms": "E2E: sent to end",
    "connect_ms": "connecting before that",
}
_ARRIVALS = {"first_token": "first token", "last_token": "last token", "end": "end of the answer"}
_PERCENTILES = ("p50", "p90", "p95", "p99")


def tables(summary: Summary) -> list[Table]:
    """Return the tables of a report, the answer first."""
    return [*answers(summary), *details(summary)]


def answers(summary: Summary) -> list[Table]:
    """Return the tables that answer what was asked."""
    return [table for table in _ANSWERS[summary["kind"]](summary) if table.rows]


def _answers_of_throughput(summary: Summary) -> list[Table]:
    steps = [_steps(summary)] if len(summary["steps"]) > 1 else []
    return [_throughput(summary), *steps]


_ANSWERS: Mapping[str, Callable[[Summary], list[Table]]] = {
    "speed": lambda summary: [_speed(summary)],
    "throughput": _answers_of_throughput,
    "rate": lambda summary: [_rate(summary), _latency_of_rate(summary)],
}
"""The tables that answer what a run asked, by its kind."""


def details(summary: Summary) -> list[Table]:
    """Return the tables that say how the answer came about."""
    found = [_latency(summary), names_table(summary), _requests(summary), _energy(summary), _checks(summary)]
    found += [_engine(summary), _instrument(summary)]
    return [table for table in found if table.rows]


def _speed(summary: Summary) -> Table:
    """Return the specification's speed table, with one cell."""
    speed = summary["speed"]
    column = f"{summary['engine']}, tokens/s [95 % interval]"
    way = "streamed" if summary["stream"] else "not streamed"
    mean = speed["tokens_per_second_mean"] or {"n": 0, "ci95": None}
    n = mean["n"]
    users = "users changed during the run" if summary.get("users_changed") else "one user"
    note = f"Output tokens over the full round trip, mean over {n} requests, {users}, answers {way}.{_rounds(summary)}"
    if n >= ENOUGH_REQUESTS and mean["ci95"] is None:
        note += " No interval: the engine's pace changes too slowly for a run of this length; more --requests."
    return Table(
        "Speed",
        ("model", column),
        (
            (str(summary["model"]), estimate(speed["tokens_per_second_mean"])),
            ("the same as total tokens / total time", estimate(speed["tokens_per_second_total"])),
        ),
        note,
    )


def _throughput(summary: Summary) -> Table:
    """Return the specification's throughput table, with one cell: the best step's."""
    best, steps = summary["throughput"], summary["steps"]
    rate = short_estimate(best["requests_per_minute"])
    rows = [(str(summary["model"]), rate if rate == ABSENT else f"{rate} at {_users(best['at_concurrency'])}")]
    if steps:
        tokens = best.get("output_tokens_per_second", steps[0]["output_tokens_per_second"])
        rows.append(("output tokens/s at that", short(tokens)))
    if slo := next((step["goodput"]["slo"] for step in steps if step.get("goodput")), None):
        rows.append((f"requests/min within {slo}", _within(best.get("goodput"))))
    if len(steps) == 1:
        rows.append(("window, s", number(steps[0]["window_seconds"], 1)))
        if (think_ms := steps[0].get("think_ms")) is not None:
            rows.append(("think time, mean, ms", short(think_ms)))
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
    return Table("Throughput", ("model", column), tuple(rows), note + _rounds(summary))


def _counted(summary: Summary) -> str:
    """Say in which window a closed loop's answers count, and why there is no interval of users who think."""
    if summary.get("users_changed"):
        return "No figure: the number of users was changed during the run, so it is of no number of users."
    steps = summary["steps"]
    if not steps:
        return "No figure: there was no time in which all users were at work."
    if not any("think_ms" in step for step in steps):
        return "Counted while all users were waiting, from 30 answers on."
    note = "Users think between their requests: each answer counts over its user's cycle of think time and request. "
    note += "Counted while all users were in their cycles, from 30 answers on."
    why = steps[0].get("no_interval") if len(steps) == 1 else None
    return note if why is None else f"{note} No interval: {why}; more --requests, or a longer --run-time."


def _within(goodput: Mapping[str, Any] | None) -> str:
    """Write the most that was served within the limits, and where."""
    if goodput is None:
        return "kept at no step by enough of the requests"
    at = f" at {_users(goodput['at_concurrency'])}" if goodput.get("at_concurrency") else ""
    return f"{short(goodput['requests_per_minute'])}{at}, {percent(goodput['share'])} of the requests"


def _users(count: int) -> str:
    return f"{count:,} user{'' if count == 1 else 's'}"


Step = Mapping[str, Any]
Column = tuple[str, Callable[[Step], str]]

_NOTES = "notes"
_FOR_TERMINALS = {"users", "requests/min [95 % interval]", "output tokens/s", "TTFT p50, ms", "TTFT p99, ms"}
_FOR_TERMINALS |= {"TPOT p50, ms", "within limits"}


def _steps(summary: Summary) -> Table:
    """Return the concurrency table; what no step has is no column of it."""
    steps = summary["steps"]
    columns: list[Column] = [
        ("users", lambda step: f"{step['concurrency']:,}"),
        ("requests/min [95 % interval]", lambda step: short_estimate(step.get("requests_per_minute"))),
        ("output tokens/s", lambda step: short(step.get("output_tokens_per_second"))),
        *_think_time(steps),
        *(_percentile_column(*which) for which in _SHOWN_OF_A_STEP if any(_has(step, which[0]) for step in steps)),
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
    return Table(
        "Steps: throughput by concurrent users",
        names,
        tuple(tuple(cell(step) for _, cell in columns) for step in steps),
        "Throughput is of all that was served in a step's window, latencies are of the requests sent in it.",
        words=tuple(i for i, name in enumerate(names) if name == _NOTES),
        wide=tuple(i for i, name in enumerate(names) if name not in _FOR_TERMINALS),
    )


def _think_time(steps: Sequence[Step]) -> list[Column]:
    """Return the column of the mean think time, where users think."""
    if not any("think_ms" in step for step in steps):
        return []
    return [("think time, mean, ms", lambda step: short(step.get("think_ms")))]


_SHOWN_OF_A_STEP = (
    ("ttft_ms", "p50"),
    ("ttft_ms", "p99"),
    ("tpot_ms", "p50"),
    ("itl_ms", "p50"),
    ("icl_ms", "p50"),
    ("e2e_ms", "p50"),
    ("e2e_ms", "p99"),
)


def _has(step: Step, name: str) -> bool:
    return bool((step.get("latency") or {}).get(name, {}).get("n"))


def _percentile_column(name: str, p: str) -> Column:
    return f"{_short(name)} {p}, ms", lambda step: short((step.get("latency") or {}).get(name, {}).get(p))


def _short(name: str) -> str:
    return name.removesuffix("_ms").upper()


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
    refused = [name for name in ("ttft_ms", "e2e_ms") if "p99" in latency.get(name, {}).get("not_resolvable", ())]
    if refused:
        found.append(f"p99 of {' and '.join(_short(name) for name in refused)} not resolvable")
    return "; ".join(found)


def _rate(summary: Summary) -> Table:
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
    return Table("Rate", ("", f"{summary['model']} on {summary['engine']}"), tuple(rows), note + _rounds(summary))


def _latency_of_rate(summary: Summary) -> Table:
    """Return latencies from the schedule and from the send side by side: what is between them waited before us."""
    rate = summary["rate"]
    due, sent, lag = (rate.get(key) or {} for key in ("latency_from_schedule", "latency_from_send", "send_lag_ms"))
    rows = [
        (f"{label}, from the {origin}", *(number((of.get(key) or {}).get(p)) for p in _SIDE_BY_SIDE))
        for key, label in (("ttft_ms", "TTFT"), ("e2e_ms", "E2E"))
        for origin, of in (("schedule", due), ("send", sent))
        if (of.get(key) or {}).get("n")
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


def _rounds(summary: Summary) -> str:
    """Say so where prompts were asked more than once: an engine may have cached them."""
    sample = summary["sample"]
    if sample["rounds"] <= 1:
        return ""
    return f" The sample of {sample['prompts']} prompts was gone round {sample['rounds']} times, in a seeded order."


def _latency(summary: Summary) -> Table:
    """Return the latencies; of a run with several loads those of the best step, as all together say nothing."""
    latency, where = summary["latency"], ""
    if len(steps := summary.get("steps", ())) > 1:
        best = summary["throughput"]["at_concurrency"]
        latency = next((step["latency"] for step in steps if step["concurrency"] == best), {})
        where = f", at {_users(best)}"
    rows = tuple(
        (
            label,
            number(latency[key].get("mean")),
            *(number(latency[key].get(p)) for p in _PERCENTILES),
            str(latency[key]["n"]),
        )
        for key, label in LATENCIES.items()
        if latency.get(key, {}).get("n")
    )
    note = f"{ABSENT}: too few values for that percentile (p99 needs 368)."
    if where:
        note = f"{ABSENT}: not resolvable, too few independent values for that percentile."
    return Table(f"Latency, ms{where}", ("", "mean", *_PERCENTILES, "n"), rows, note)


def _requests(summary: Summary) -> Table:
    r, tokens = summary["requests"], summary["tokens"]
    length = tokens["output_per_request"]
    rows = [
        ("completed", str(r["completed"])),
        ("failed", str(r["failed"])),
        ("aborted", str(r["aborted"])),
        ("output tokens", number(tokens["output"], 0)),
        ("output tokens a request, mean", number(length.get("mean"), 1)),
        ("input tokens", number(tokens["input"], 0)),
        ("counted by", ", ".join(f"{who} {n}" for who, n in tokens["counted_by"].items()) or ABSENT),
        ("output tokens by each who counted", counts(tokens.get("counts") or {})),
        ("finish reasons", ", ".join(f"{why} {n}" for why, n in tokens["finish_reasons"].items()) or ABSENT),
    ]
    rows += _chat(summary.get("chat") or {})
    rows += [(f"{outcome} ({n})", r["errors"].get(outcome, "")) for outcome, n in r["by_error"].items()]
    return Table("Requests", ("", ""), tuple(rows))


def _energy(summary: Summary) -> Table:
    """Return what the engine's GPUs used, and what tokens cost, as far as that is known."""
    e = summary.get("energy") or {}
    rows = [
        ("energy an output token, J", short(e.get("joules_per_output_token"))),
        ("energy a request, J", short(e.get("joules_per_request"))),
        ("output tokens/s per watt", short(e.get("tokens_per_second_per_watt"))),
        ("power, mean, W", short(e.get("watts"))),
        ("a million output tokens cost", short(e.get("cost_per_million_output_tokens"))),
    ]
    known = tuple((name, value) for name, value in rows if value != ABSENT)
    of = f"{e.get('gpus')} GPU{'' if e.get('gpus') == 1 else 's'}, boards alone, idle power included"
    how = {"counter": "by their energy counters", "power": "by the integral of their power, which is less exact"}
    by = how.get(str(e.get("source")))
    return Table("Energy and cost", ("", ""), known, f"{of}{', ' + by if by else ''}.")


def _chat(chat: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Say what of a chat was done here, as the engine does not."""
    ways = {
        "client": "made of the chat by its template here",
        "nobody": "sent as they are, without a chat template: none is known of this model",
    }
    way = ways.get(str(chat.get("made_by")))
    rows = [] if way is None else [("prompts", way)]
    if stop := chat.get("stop"):
        rows.append(("stop strings sent", ", ".join(map(repr, stop))))
    return rows


def counts(by: Mapping[str, int | None]) -> str:
    """Say how many tokens each counted, and how many the server is known to have left out."""
    usage = by.get("usage")
    said = []
    if usage is not None:
        more = by.get("put_right")
        said.append(f"usage {usage:,}" + (f" and {more:,} left out by it" if more else ""))
    said += [f"{who} {n:,}" for who in ("tokenizer", "chunks") if (n := by.get(who)) is not None]
    return "; ".join(said) or ABSENT


def _checks(summary: Summary) -> Table:
    rows = tuple(
        (c["name"], c["status"], c["value"] or ABSENT, c["limit"] or ABSENT, c["advice"] or "")
        for c in summary["verdict"]["checks"]
    )
    return Table(f"Verdict: {summary['verdict']['status']}", ("check", "status", "value", "limit", "advice"), rows)


def _width(width: Mapping[str, float] | None) -> str:
    return ABSENT if width is None else f"{number(width['mean'], 3)}, {number(width['max'], 3)}"


def _calibration(calibration: Mapping[str, Any] | None) -> str:
    return "not calibrated" if calibration is None else f"{calibration['text']} ({calibration['made_at'][:10]})"


def _engine(summary: Summary) -> Table:
    """Return how the engine was started, where that was done here."""
    e = summary.get("launched")
    if e is None:
        return Table("Engine", ("", ""), ())
    at = f", revision {e['revision']}" if e["revision"] else ""
    runs_in = e["image_digest"] or e["image"] or ", ".join(f"{name} {v}" for name, v in e["packages"].items())
    gpus = ", ".join(
        f"{gpu['name']}, driver {gpu['driver']}, power cap {short(gpu['power_cap_w'])} W" for gpu in e["gpus"]
    )
    rows = [
        ("engine", e["title"]),
        ("weights", f"{e['source']}{at}: {e['weights']}, {e['dtype']}" if e["source"] else "none"),
        ("runs in", runs_in),
        ("on", gpus or "the CPU"),
        ("started as", " & ".join(" ".join(command) for command in e["commands"])),
        ("first answer after, s", number(e["startup_s"], 1)),
    ]
    if (bound := e["bound"]) and (speed := (summary.get("speed") or {}).get("tokens_per_second_mean")):
        share = 100 * speed["value"] / bound["tokens_per_second"]
        rows.append((f"of the memory-bandwidth bound of {bound['of']}", f"{share:.0f} %"))
    rows += [("note", note) for note in e["notes"]]
    return Table("Engine", ("", ""), tuple(rows))


def _instrument(summary: Summary) -> Table:
    i = summary["instrument"]
    lag, delay = i["loop_lag_ms"] or {}, i["read_delay_ms"] or {}
    rows = (
        ("receive times taken by", i["timestamp_source"] or ABSENT),
        ("kernel to user space, ms: p50, max", f"{number(delay.get('p50'), 3)}, {number(delay.get('max'), 3)}"),
        ("loop lag, ms: p50, p99, max", ", ".join(number(lag.get(key), 3) for key in ("p50", "p99", "max"))),
        (
            "chunks that shared a read with a later one",
            ABSENT if i["coalesced_reads"] is None else f"{i['coalesced_reads']} of {i['chunks']}",
        ),
        *((f"{name} known to, ms: mean, max", _width(i["interval_ms"][key])) for key, name in _ARRIVALS.items()),
        ("calibrated to hold errors below 1 ms or 1 %", _calibration(i["calibration"])),
        ("streams read token by token", f"{i['streams_read_token_by_token']} of {i['streams']}"),
        ("kept connections gone stale and replaced", str(i["replaced_connections"])),
        ("CPU time of the load generator, s; share of a core", f"{number(i['cpu_seconds'])}; {number(i['cpu_share'])}"),
        (
            "pauses of its garbage collector: number, longest, ms",
            f"{number(i['gc_pauses'], 0)}, {number(i['gc_longest_ms'], 2)}",
        ),
    )
    return Table("Instrument", ("", ""), rows)
