"""How many requests were in flight, and what was served while the load was constant."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from loadgen.clock import SECOND
from loadgen.measure.columns import ABSENT, Ints
from loadgen.measure.records import Records
from loadgen.record import Outcome, RequestRecord

Series = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Window:
    """A span of the run on the monotonic clock, ns."""

    start: int
    end: int

    @property
    def seconds(self) -> float:
        """Length of the window."""
        return (self.end - self.start) / SECOND


def peak_in_flight(records: Iterable[RequestRecord]) -> int:
    """Return the largest number of requests in [sent, end) at one instant."""
    sent, end = _sorted_spans(records)
    # At an instant at which one ends and another starts, the end comes first: the peak would be one too high.
    ended = np.searchsorted(end, sent, side="right")
    return max(0, int((np.arange(1, len(sent) + 1) - ended).max(initial=0)))


def full_window(records: Iterable[RequestRecord], users: int) -> Window | None:
    """Return the span from the first to the last instant at which ``users`` requests were in flight.

    Between the two the load is constant but for the moments between an answer and the next request; before it lies the
    ramp, behind it the drain. None where the number was never reached.
    """
    sent, end = _sorted_spans(records)
    number = np.arange(len(sent))
    reached = np.flatnonzero(number + 1 - np.searchsorted(end, sent, side="right") >= users)
    left = np.flatnonzero(np.searchsorted(sent, end, side="left") - number >= users)
    if not len(reached) or not len(left):
        return None
    window = Window(int(sent[reached[0]]), int(end[left[-1]]))
    return window if window.end > window.start else None


def begun_ns(records: Records) -> Ints:
    """Return when each request was sent; of one that could not be sent, when it ended. ABSENT if neither is known."""
    sent = records.ints("sent_ns")
    return np.asarray(np.where(sent == ABSENT, records.ints("end_ns"), sent))


def belonging_to(window: Window, records: Iterable[RequestRecord]) -> Records:
    """Return the requests of a window in the order they were sent; one that could not be sent counts at its end."""
    records = Records.of(records)
    at = begun_ns(records)
    inside = np.flatnonzero((at != ABSENT) & (window.start <= at) & (at < window.end))
    return records.take(inside[np.argsort(at[inside], kind="stable")])


def answers_in(records: Iterable[RequestRecord], window: Window) -> int:
    """Return how many complete answers ended in the window."""
    records = Records.of(records)
    end = records.where(records.equal("outcome", Outcome.OK)).ints("end_ns")
    return int(((window.start < end) & (end <= window.end)).sum())


def requests_per_minute(records: Iterable[RequestRecord], window: Window) -> float:
    """Return complete answers served in the window, per minute; of one that reaches beyond it, the part within counts.

    Counting those that end in it would depend on how the edges of the window fall between answers: with users in step,
    by as much as an answer of each.
    """
    edges = np.array([window.start, window.end], dtype=np.int64)
    return 60 * float(Spans.of(records).answers_served(edges)[0]) / window.seconds


_SPANS = ("sent_ns", "end_ns", "first_token_ns", "output_tokens", "think_ns")

ROUNDING = 1e-9
"""Share of all that is summed, up to which a difference of two sums is 0."""


SHORTEST_SERVICE_NS = 1_000_000
"""An answer is spread over at least 1 ms: one whose tokens all arrived at its end would be a spike."""


@dataclass(frozen=True, slots=True)
class Spans:
    """Requests as spans of time, one element for each that was sent. Complete answers are spread evenly over theirs."""

    sent: NDArray[np.int64]
    begun: NDArray[np.int64]
    """From when on an answer counts; equal to ``sent`` in :meth:`of`."""
    end: NDArray[np.int64]
    service: Series
    """Time from the first token to the end, ns; the whole round trip where there was no stream."""
    answers: Series
    """1 for a complete answer, 0 for another end."""
    tokens: Series
    """Output tokens of complete answers; nan where nobody counted them."""
    think: Series
    """Think time of the user before the request, ns; 0 where there was none, or nobody looked."""

    @classmethod
    def of(cls, records: Iterable[RequestRecord]) -> "Spans":
        """Make them of records, each answer spread over its round trip; requests never sent are left out."""
        known = Records.of(records).where_known("sent_ns", "end_ns")
        known = known.where(known.ints("end_ns") > known.ints("sent_ns"))
        sent, end, first, counted, think = map(known.ints, _SPANS)
        ok = known.equal("outcome", Outcome.OK)
        first = np.where(first == ABSENT, sent, first)
        service = np.clip(end - first, np.minimum(SHORTEST_SERVICE_NS, end - sent), end - sent)
        return cls(
            sent,
            sent,
            end,
            service.astype(float),
            ok.astype(float),
            np.where(ok, np.where(counted == ABSENT, np.nan, counted), 0.0),
            np.where(think == ABSENT, 0, think).astype(float),
        )

    @classmethod
    def of_service(cls, records: Iterable[RequestRecord]) -> "Spans":
        """Make them of records, each streamed answer spread over the end of its round trip: twice its time of service.

        A request that waits in the engine's queue is not being served. Spread over its whole round trip, it would
        count as served while the queue still fills, and throughput above capacity would read too high. As long before
        the first token as after it leaves room for the prefill, of which engines do many in a row: spread over the
        time of service alone, their answers come in bursts.
        """
        spans = cls.of(records)
        return replace(spans, begun=np.maximum(spans.sent, spans.end - 2 * spans.service.astype(np.int64)))

    @classmethod
    def of_cycles(cls, records: Iterable[RequestRecord]) -> "Spans":
        """Make them of records of users who think, each answer spread over its cycle: think time and round trip.

        A user then counts with the same rate all through a cycle, wherever in it a window begins or ends. Spread over
        round trips alone, answers of users who keep in step would come in bursts with nothing between them, and the
        edges of the window would decide how many of them count.
        """
        spans = cls.of(records)
        return replace(spans, begun=spans.sent - spans.think.astype(np.int64))

    @property
    def turns_s(self) -> Series:
        """Time of service and think time of each request, s; above 0."""
        return (self.service + self.think) / SECOND

    def answers_served(self, edges: NDArray[np.int64]) -> Series:
        """Return the answers served in each bin between two edges; of one that reaches beyond it, the part within."""
        return self.served(self.answers, edges)

    def tokens_served(self, edges: NDArray[np.int64]) -> Series:
        """Return the output tokens served in each bin, by the same parts."""
        return self.served(self.tokens, edges)

    def in_flight(self, edges: NDArray[np.int64]) -> Series:
        """Return the mean number of requests in flight in each bin."""
        return _within(self.sent, self.end, (self.end - self.sent).astype(float), edges) / np.diff(edges)

    def served(self, weights: Series, edges: NDArray[np.int64]) -> Series:
        """Return how much of some weight of each answer was served in each bin."""
        return _within(self.begun, self.end, weights, edges)


def _within(start: NDArray[np.int64], end: NDArray[np.int64], weights: Series, edges: NDArray[np.int64]) -> Series:
    """Spread each weight evenly over its span and return what falls into each bin.

    The cumulated sum at a time t is that of (t - start) * rate over spans begun, less (t - end) * rate over those
    ended: two look-ups in sorted arrays for each edge.
    """
    origin = edges[0]
    rates = weights / (end - start)
    begun = _Ramp(start - origin, rates)
    ended = _Ramp(end - origin, rates)
    at = (edges - origin).astype(float)
    found = np.diff(begun.at(at) - ended.at(at))
    # The two sums grow with all that was served before: what is left of them where nothing was is rounding.
    found[np.abs(found) <= ROUNDING * np.nansum(weights)] = 0.0
    return found


class _Ramp:
    """The sum over all starts s with s < t of (t - s) * rate."""

    def __init__(self, starts: NDArray[np.int64], rates: Series) -> None:
        order = np.argsort(starts, kind="stable")
        self._starts = starts[order].astype(float)
        self._rates = np.concatenate([[0.0], np.cumsum(rates[order])])
        self._moments = np.concatenate([[0.0], np.cumsum(rates[order] * self._starts)])

    def at(self, t: Series) -> Series:
        begun = np.searchsorted(self._starts, t)
        return np.asarray(t * self._rates[begun] - self._moments[begun])


def edges_of(window: Window, bin_ns: int) -> NDArray[np.int64]:
    """Return the edges of whole bins that fill a window from its start; what is left at its end is in none."""
    return np.arange(window.start, window.end + 1, bin_ns, dtype=np.int64)


def _sorted_spans(records: Iterable[RequestRecord]) -> tuple[Ints, Ints]:
    """Return when requests were sent, and when they ended, each in order."""
    known = Records.of(records).where_known("sent_ns", "end_ns")
    return np.sort(known.ints("sent_ns")), np.sort(known.ints("end_ns"))
