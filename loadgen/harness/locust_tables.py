"""What Locust's own tables show of a request: its round trip, and rows of their own for what only an LLM has."""

from locust.env import Environment

from loadgen.clock import MS
from loadgen.measure import metrics
from loadgen.printable import escaped
from loadgen.record import Outcome, Phase, RequestRecord

METHOD = "LLM"


class RequestFailed(Exception):  # noqa: N818 the name is what Locust's failure table shows
    """A fault of the server, as Locust's tables want it."""


def show(environment: Environment, record: RequestRecord, route: str) -> None:
    """Fire Locust's event for a request, and log the LLM rows beside it, so that its totals count requests only."""
    environment.events.request.fire(
        request_type="POST",
        name=route if record.phase is Phase.MEASURE else "warm-up",
        response_time=_round_trip_ms(record),
        response_length=record.output_characters or 0,
        exception=None if record.outcome is Outcome.OK else _failure(record),
        context={"record": record},
    )
    if record.phase is not Phase.MEASURE or environment.runner is None:
        return
    rows = {
        "TTFT, ms": metrics.ttft_ms(record),
        "TPOT, ms": metrics.tpot_ms(record),
        "tokens/s": metrics.tokens_per_second(record),
        "output tokens": record.output_tokens,
    }
    for name, value in rows.items():
        if value is not None:
            environment.runner.stats.get(name, METHOD).log(value, 0)  # type: ignore[arg-type]  # it takes floats as well


def _failure(record: RequestRecord) -> RequestFailed:
    """Return a failure as Locust shows it: in its web UI, in its reports, and on the terminal."""
    return RequestFailed(escaped(f"{record.outcome}: {record.error}"))


def _round_trip_ms(record: RequestRecord) -> float | None:
    if record.sent_ns is None or record.end_ns is None:
        return None
    return (record.end_ns - record.sent_ns) / MS
