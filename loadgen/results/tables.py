"""The tables of a report, made once from the summary; Markdown, HTML and the terminal only differ in how they draw."""

from collections.abc import Callable, Mapping
from typing import Any

from loadgen.measure.limits import ENOUGH_REQUESTS
from loadgen.metrics import LATENCIES, OUTPUT_TOKENS_PER_SECOND, REQUESTS_PER_MINUTE
from loadgen.printable import counted
from loadgen.results.counts import causes_of
from loadgen.results.load_tables import (
    rate_latency_table,
    rate_table,
    rounds_note,
    steps_table,
    throughput_table,
)
from loadgen.results.names_table import names_table
from loadgen.results.table import Table
from loadgen.results.text import ABSENT, estimate, number, short

Summary = Mapping[str, Any]

_ARRIVALS = {"first_token": "first token", "last_token": "last token", "end": "end of the answer"}
_PERCENTILES = ("p50", "p90", "p95", "p99")


def tables(summary: Summary) -> list[Table]:
    """Return the tables of a report, the answer first."""
    return [*answers(summary), *details(summary)]


def answers(summary: Summary) -> list[Table]:
    """Return the tables that answer what was asked."""
    return [table for table in _ANSWERS[summary["kind"]](summary) if table.rows]


def _answers_of_throughput(summary: Summary) -> list[Table]:
    steps = [steps_table(summary)] if len(summary["steps"]) > 1 else []
    return [throughput_table(summary), *steps]


_ANSWERS: Mapping[str, Callable[[Summary], list[Table]]] = {
    "speed": lambda summary: [_speed(summary)],
    "throughput": _answers_of_throughput,
    "rate": lambda summary: [rate_table(summary), rate_latency_table(summary)],
}
"""The tables that answer what a run asked, by its kind."""


def details(summary: Summary) -> list[Table]:
    """Return the tables that say how the answer came about."""
    found = [latency_table(summary), names_table(summary), _requests(summary), _energy(summary), _checks(summary)]
    found += [_engine(summary), _instrument(summary)]
    return [table for table in found if table.rows]


def _speed(summary: Summary) -> Table:
    """Return the specification's speed table, with one cell."""
    speed = summary["speed"]
    column = f"{summary['engine']}, tokens/s [95 % interval]"
    way = "streamed" if summary["stream"] else "not streamed"
    if summary["stream"] and summary.get("streamed") is False:
        way = "not streamed, though streams were asked for"
    mean = speed["tokens_per_second_mean"] or {"n": 0, "ci95": None}
    n = mean["n"]
    users = "users changed during the run" if summary.get("users_changed") else "one user"
    over = f"the full round trip, mean over {counted(n, 'request')}"
    note = f"Output tokens over {over}, {users}, answers {way}.{rounds_note(summary)}"
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


def figures_of_the_run(summary: Summary) -> dict[str, Any]:
    """Return the figures that stand for a run: its throughput and latency, and ``of``, which part of it they are of.

    Of a run with several loads they are those of the best step: all together say nothing.
    """
    best = summary.get("throughput") or summary.get("rate") or {}
    found = {
        "of": "the run",
        REQUESTS_PER_MINUTE.key: (best.get(REQUESTS_PER_MINUTE.key) or {}).get("value"),
        OUTPUT_TOKENS_PER_SECOND.key: best.get(OUTPUT_TOKENS_PER_SECOND.key),
        "latency": summary["latency"],
    }
    if len(steps := summary.get("steps", ())) <= 1:
        return found
    users = summary["throughput"]["at_concurrency"]
    latency: Summary = next((step["latency"] for step in steps if step["concurrency"] == users), {})
    return found | {"of": f"at {counted(users, 'user')}", "latency": latency}


def latency_table(summary: Summary) -> Table:
    """Return the latencies of the run, or of its best step."""
    figures = figures_of_the_run(summary)
    latency: Summary = figures["latency"]
    where = ""
    if len(summary.get("steps", ())) > 1:
        where = f", {figures['of']}"
    rows = tuple(
        (
            f"{metric.label}: {metric.span}",
            number(latency[metric.key].get("mean")),
            *(number(latency[metric.key].get(p)) for p in _PERCENTILES),
            str(latency[metric.key]["n"]),
        )
        for metric in LATENCIES
        if latency.get(metric.key, {}).get("n")
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
    rows += causes_of(r)
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
        *(("this system does not have", lack) for lack in i.get("lacks", ())),
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
