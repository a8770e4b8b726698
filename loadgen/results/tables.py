"""The tables of a report, made once from the summary; Markdown, HTML and the terminal only differ in how they draw."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from loadgen.results.text import ABSENT, estimate, number

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


@dataclass(frozen=True, slots=True)
class Table:
    """A table: first column words, the others numbers."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def tables(summary: Summary) -> list[Table]:
    """Return the tables of a report, the answer first."""
    answer = _speed(summary) if summary["kind"] == "speed" else _throughput(summary)
    found = [answer, _latency(summary), _requests(summary), _checks(summary), _instrument(summary)]
    return [table for table in found if table.rows]


def _speed(summary: Summary) -> Table:
    """Return the specification's speed table, with one cell."""
    speed = summary["speed"]
    column = f"{summary['engine']}, tokens/s [95 % interval]"
    way = "streamed" if summary["stream"] else "not streamed"
    n = (speed["tokens_per_second_mean"] or {}).get("n", 0)
    return Table(
        "Speed",
        ("model", column),
        (
            (str(summary["model"]), estimate(speed["tokens_per_second_mean"])),
            ("the same as total tokens / total time", estimate(speed["tokens_per_second_total"])),
        ),
        f"Output tokens over the full round trip, mean over {n} requests, one user, answers {way}.{_rounds(summary)}",
    )


def _throughput(summary: Summary) -> Table:
    rows = tuple(
        (
            str(step["concurrency"]),
            estimate(step["requests_per_minute"]),
            number(step["output_tokens_per_second"]),
            number(step["window_seconds"], 1),
        )
        for step in summary["steps"]
    )
    note = (
        "Closed loop: each user waits for an answer before the next question. "
        "Counted while all users were waiting, from 30 answers on."
    )
    note += _rounds(summary)
    return Table("Throughput", ("concurrent users", "requests/min", "output tokens/s", "window, s"), rows, note)


def _rounds(summary: Summary) -> str:
    """Say so where prompts were asked more than once: an engine may have cached them."""
    sample = summary["sample"]
    if sample["rounds"] <= 1:
        return ""
    return f" The sample of {sample['prompts']} prompts was gone round {sample['rounds']} times, in a seeded order."


def _latency(summary: Summary) -> Table:
    latency = summary["latency"]
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
    return Table("Latency, ms", ("", "mean", *_PERCENTILES, "n"), rows, note)


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
        ("finish reasons", ", ".join(f"{why} {n}" for why, n in tokens["finish_reasons"].items()) or ABSENT),
    ]
    rows += [(f"{outcome} ({n})", r["errors"].get(outcome, "")) for outcome, n in r["by_error"].items()]
    return Table("Requests", ("", ""), tuple(rows))


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
