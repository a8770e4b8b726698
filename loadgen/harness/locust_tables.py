"""What Locust's own tables show of a request: its round trip, and separate rows for what only an LLM has."""

from collections.abc import Mapping

from locust.env import Environment

from loadgen.clock import MS, SECOND, realtime_offset
from loadgen.measure.names import FirstNames
from loadgen.metrics import PER_REQUEST
from loadgen.printable import escaped
from loadgen.record import Outcome, Phase, RequestRecord

METHOD = "LLM"


class RequestFailed(Exception):  # noqa: N818 the name is what Locust's failure table shows
    """A fault of the server, as Locust's tables want it."""


class LocustTables:
    """Shows the requests that one process makes in one run to listeners of Locust's events, its tables among them.

    Requests have a row for each of their names, 32 at most, then ``other``; those without a name have the row of their
    route.
    """

    def __init__(self, environment: Environment, base_url: str, route: str) -> None:
        self._environment = environment
        self._route = route
        self._url = f"{base_url}{route}"
        self._names = FirstNames()

    def show(self, record: RequestRecord, context: Mapping[str, object] = {}) -> None:
        """Fire Locust's event for a request, and log the LLM rows apart, so that its totals count requests only.

        ``context``: what the user's ``context()`` returned. Listeners get it together with the record, under
        ``record``. ``response`` is None: answers are not kept, and the record has what is known of them.
        """
        is_measured = record.phase is Phase.MEASURE
        self._environment.events.request.fire(
            request_type="POST",
            name=self._row(record) if is_measured else "warm-up",
            response_time=_round_trip_ms(record),
            response_length=record.output_characters or 0,
            exception=None if record.outcome is Outcome.OK else _failure(record),
            response=None,
            context={**context, "record": record},
            start_time=_start_time(record),
            url=self._url,
        )
        if is_measured and self._environment.runner is not None:
            self._show_llm_rows(record)

    def _row(self, record: RequestRecord) -> str:
        return self._names.label_of(record.name) if record.name else self._route

    def _show_llm_rows(self, record: RequestRecord) -> None:
        rows = {
            metric.heading: metric.of(record) for metric in PER_REQUEST if metric.of is not None and metric.in_locust
        }
        assert self._environment.runner is not None
        stats = self._environment.runner.stats
        for name, value in rows.items():
            if value is not None:
                stats.get(name, METHOD).log(value, 0)  # type: ignore[arg-type]  # it takes floats as well


def _failure(record: RequestRecord) -> RequestFailed:
    """Return a failure as Locust shows it: in its web UI, in its reports, and on the terminal."""
    return RequestFailed(escaped(f"{record.outcome}: {record.error}"))


def _round_trip_ms(record: RequestRecord) -> float | None:
    if record.sent_ns is None or record.end_ns is None:
        return None
    return (record.end_ns - record.sent_ns) / MS


def _start_time(record: RequestRecord) -> float | None:
    """Return the wall time at which a request was sent, or else its connection was tried, s; None if neither was."""
    at = record.connect_ns if record.sent_ns is None else record.sent_ns
    return None if at is None else (at + realtime_offset()) / SECOND
