"""The tables of a report, made once from the summary; Markdown, HTML and the terminal only differ in how they draw."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from loadgen.measure.check import CheckResult
from loadgen.measure.statistics import Distribution
from loadgen.metrics import LATENCIES, OUTPUT_TOKENS_PER_SECOND, REQUESTS_PER_MINUTE
from loadgen.printable import counted
from loadgen.results.counts import causes_of
from loadgen.results.drift import drift_table
from loadgen.results.load_tables import (
    rate_latency_table,
    rate_table,
    rounds_note,
    steps_table,
    throughput_table,
)
from loadgen.results.names_table import names_table
from loadgen.results.steps import NO_FIGURE
from loadgen.results.summary_schema import Calibration, Chat, Latency, Summary, TokenCounts, Width
from loadgen.results.table import Table
from loadgen.results.text import ABSENT, few_note, number, percentile, short, short_estimate

_PERCENTILES = ("p50", "p90", "p95", "p99")


def tables(summary: Summary) -> list[Table]:
    """Return the tables of a report that are made from its summary, the answer first."""
    checks = checks_table(summary.verdict.checks)
    return [*answers(summary), *details(summary), checks, instrument_table(summary)]


def answers(summary: Summary) -> list[Table]:
    """Return the tables that answer what was asked."""
    return [table for table in _ANSWERS[summary.kind](summary) if table.rows]


def _answers_of_throughput(summary: Summary) -> list[Table]:
    steps = [steps_table(summary)] if summary.is_sweep else []
    return [throughput_table(summary), *steps]


_ANSWERS: Mapping[str, Callable[[Summary], list[Table]]] = {
    "speed": lambda summary: [_speed(summary)],
    "throughput": _answers_of_throughput,
    "rate": lambda summary: [rate_table(summary), rate_latency_table(summary)],
}
"""The tables that answer what a run asked, by its kind."""


def details(summary: Summary) -> list[Table]:
    """Return the tables that say how the answer came about."""
    found = [
        latency_table(summary),
        drift_table(summary.drift),
        names_table(summary),
        _requests(summary),
        _energy(summary),
        _engine(summary),
    ]
    return [table for table in found if table.rows]


def _speed(summary: Summary) -> Table:
    """Return the specification's speed table, with one cell."""
    assert summary.speed is not None
    column = f"{summary.engine}, tokens/s [95 % interval]"
    way = "streamed" if summary.stream else "not streamed"
    if summary.stream and summary.streamed is False:
        way = "not streamed, though streams were asked for"
    mean = summary.speed.tokens_per_second_mean or NO_FIGURE
    users = "users changed during the run" if summary.users_changed else "one user"
    over = f"the full round trip, mean over {counted(mean.n, 'request')}"
    note = f"Output tokens over {over}, {users}, answers {way}.{rounds_note(summary)}"
    if summary.speed.no_interval is not None:
        note += f" No interval: {summary.speed.no_interval}; more --requests."
    return Table(
        "Speed",
        ("model", column),
        (
            (summary.model, short_estimate(mean)),
            ("the same as total tokens / total time", short_estimate(summary.speed.tokens_per_second_total)),
        ),
        note,
    )


def figures_of_the_run(summary: Summary) -> tuple[str, dict[str, Any]]:
    """Return which part of a run its figures are of, and the figures by their keys: throughput, and ``latency``.

    Of a run with several loads they are those of the best step: all together say nothing.
    """
    best = summary.throughput or summary.rate
    rate = None if best is None else best.requests_per_minute
    figures = {
        REQUESTS_PER_MINUTE.key: None if rate is None else rate.value,
        OUTPUT_TOKENS_PER_SECOND.key: None if best is None else best.output_tokens_per_second,
        "latency": summary.latency,
    }
    if not summary.is_sweep or summary.throughput is None:
        return "the run", figures
    users = summary.throughput.at_concurrency
    latency = next((step.latency for step in summary.steps or () if step.concurrency == users), {})
    return f"at {counted(users or 0, 'user')}", figures | {"latency": latency}


def latency_table(summary: Summary) -> Table:
    """Return the latencies of the run or of its best step; for an open loop, only those missing from its own table."""
    of, figures = figures_of_the_run(summary)
    latency: Latency = figures["latency"]
    where = f", {of}" if summary.is_sweep else ""
    rows = tuple(
        (
            f"{metric.label}: {metric.span}",
            *(percentile(latency[metric.key], p) for p in ("mean", *_PERCENTILES)),
            _count(latency[metric.key]),
        )
        for metric in LATENCIES
        if metric.key in latency and latency[metric.key].n and not (summary.rate is not None and metric.from_send)
    )
    return Table(f"Latency, ms{where}", ("", "mean", *_PERCENTILES, "n"), rows, few_note(rows))


def _count(of: Distribution) -> str:
    """Return how many values there are, and how many independent ones they are worth."""
    is_series = of.n_eff is not None and round(of.n_eff) < of.n
    return f"{of.n:,} ({of.n_eff:,.0f} effective)" if is_series else f"{of.n:,}"


def _requests(summary: Summary) -> Table:
    r, tokens = summary.requests, summary.tokens
    rows = [
        ("completed", str(r.completed)),
        ("failed", str(r.failed)),
        ("aborted", str(r.aborted)),
        ("output tokens", number(tokens.output, 0)),
        ("output tokens per request, mean", number(tokens.output_per_request.mean, 1)),
        ("input tokens", number(tokens.input, 0)),
        ("token counts from", ", ".join(f"{who} {n}" for who, n in tokens.counted_by.items()) or ABSENT),
        ("output tokens by source", counts(tokens.counts)),
        ("finish reasons", ", ".join(f"{why} {n}" for why, n in tokens.finish_reasons.items()) or ABSENT),
    ]
    rows += _chat(summary.chat)
    rows += causes_of(r)
    return Table("Requests", ("", ""), tuple(rows))


def _energy(summary: Summary) -> Table:
    """Return what the engine's GPUs used, and what tokens cost, as far as that is known."""
    e = summary.energy
    if e is None:
        return Table("Energy and cost", ("", ""), ())
    rows = [
        ("energy an output token, J", short(e.joules_per_output_token)),
        ("energy a request, J", short(e.joules_per_request)),
        ("output tokens/s per watt", short(e.tokens_per_second_per_watt)),
        ("power, mean, W", short(e.watts)),
        ("a million output tokens cost", short(e.cost_per_million_output_tokens)),
    ]
    known = tuple((name, value) for name, value in rows if value != ABSENT)
    of = f"{counted(e.gpus, 'GPU')}, boards alone, idle power included"
    how = {"counter": "by their energy counters", "power": "by the integral of their power, which is less exact"}
    by = how.get(str(e.source))
    return Table("Energy and cost", ("", ""), known, f"{of}{', ' + by if by else ''}.")


def _chat(chat: Chat) -> list[tuple[str, str]]:
    """Say what of a chat was done here, as the engine does not."""
    ways = {
        "client": "made of the chat by its template here",
        "nobody": "sent as they are, without a chat template: none is known of this model",
    }
    way = ways.get(chat.made_by)
    rows = [] if way is None else [("prompts", way)]
    if chat.stop:
        rows.append(("stop strings sent", ", ".join(map(repr, chat.stop))))
    return rows


def counts(by: TokenCounts) -> str:
    """Say how many tokens each counted, and how many the server is known to have left out."""
    said = []
    if by.usage is not None:
        said.append(f"usage {by.usage:,}" + (f" and {by.put_right:,} left out by it" if by.put_right else ""))
    said += [f"{who} {n:,}" for who, n in (("tokenizer", by.tokenizer), ("chunks", by.chunks)) if n is not None]
    return "; ".join(said) or ABSENT


def checks_table(checks: Sequence[CheckResult], title: str = "Checks") -> Table:
    """Return a row for each check."""
    rows = tuple((c.name, c.status.value, c.value or ABSENT, c.limit or ABSENT, c.advice or "") for c in checks)
    return Table(title, ("check", "status", "value", "limit", "advice"), rows, words=(0, 1, 2, 3, 4))


def _width(width: Width | None) -> str:
    return ABSENT if width is None else f"{number(width.mean, 3)}, {number(width.max, 3)}"


def _calibration(calibration: Calibration | None) -> str:
    return "not calibrated" if calibration is None else f"{calibration.text} ({calibration.made_at[:10]})"


def _engine(summary: Summary) -> Table:
    """Return how the engine was started, where that was done here."""
    e = summary.launched
    if e is None:
        return Table("Engine", ("", ""), ())
    at = f", revision {e.revision}" if e.revision else ""
    runs_in = e.image_digest or e.image or ", ".join(f"{name} {v}" for name, v in e.packages.items())
    gpus = ", ".join(f"{gpu.name}, driver {gpu.driver}, power cap {short(gpu.power_cap_w)} W" for gpu in e.gpus)
    rows = [
        ("engine", e.title),
        ("weights", f"{e.source}{at}: {e.weights}, {e.dtype}" if e.source else "none"),
        ("runs in", runs_in),
        ("on", gpus or "the CPU"),
        ("started as", " & ".join(" ".join(command) for command in e.commands)),
        ("first answer after, s", number(e.startup_s, 1)),
    ]
    speed = summary.speed and summary.speed.tokens_per_second_mean
    if e.bound and speed and speed.value is not None:
        share = 100 * speed.value / e.bound.tokens_per_second
        rows.append((f"of the memory-bandwidth bound of {e.bound.of}", f"{share:.0f} %"))
    rows += [("note", note) for note in e.notes]
    return Table("Engine", ("", ""), tuple(rows))


def instrument_table(summary: Summary) -> Table:
    """Return how well the load generator measured."""
    i = summary.instrument
    lag, delay = i.loop_lag_ms, i.read_delay_ms
    lags = (None, None, None) if lag is None else (lag.p50, lag.p99, lag.max)
    delays = (None, None) if delay is None else (delay.p50, delay.max)
    rows = (
        ("receive times taken by", i.timestamp_source or ABSENT),
        *(("this system does not have", lack) for lack in i.lacks),
        ("kernel to user space, ms: p50, max", ", ".join(number(value, 3) for value in delays)),
        ("loop lag, ms: p50, p99, max", ", ".join(number(value, 3) for value in lags)),
        (
            "chunks that shared a read with a later one",
            ABSENT if i.coalesced_reads is None else f"{i.coalesced_reads} of {i.chunks}",
        ),
        ("uncertainty of the first token, ms: mean, max", _width(i.interval_ms.first_token)),
        ("uncertainty of the last token, ms: mean, max", _width(i.interval_ms.last_token)),
        ("uncertainty of the end, ms: mean, max", _width(i.interval_ms.end)),
        ("calibrated to hold errors below 1 ms or 1 %", _calibration(i.calibration)),
        ("streams read token by token", f"{i.streams_read_token_by_token} of {i.streams}"),
        ("kept connections gone stale and replaced", str(i.replaced_connections)),
        ("CPU time of the load generator, s; share of a core", f"{number(i.cpu_seconds)}; {number(i.cpu_share)}"),
        (
            "pauses of its garbage collector: number, longest, ms",
            f"{number(i.gc_pauses, 0)}, {number(i.gc_longest_ms, 2)}",
        ),
    )
    return Table("Instrument", ("", ""), rows)
