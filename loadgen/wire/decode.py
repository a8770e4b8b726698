"""From a transcript to what was answered and when: pure functions, called when the response is over."""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

from loadgen.clock import Ns
from loadgen.record import Outcome
from loadgen.wire.answer import Answer
from loadgen.wire.dialect import Dialect, DialectError
from loadgen.wire.http1 import Response
from loadgen.wire.openai_chat import error_message
from loadgen.wire.sse import SseEvent, parse_sse
from loadgen.wire.transcript import Transcript


def decode(transcript: Transcript, dialect: Dialect, *, stream: bool) -> Answer:
    """Read the answer out of a transcript. The server's faults become outcomes; nothing is raised for them."""
    response = transcript.response
    if response.status and response.status != 200:  # noqa: PLR2004
        return _refusal(transcript)
    answer = Answer(transcript.outcome, transcript.error)
    complete = transcript.outcome is Outcome.OK
    as_stream = _is_stream(response, asked=stream)
    try:
        if as_stream:
            _read_events(answer, transcript, dialect, parse_sse(response.body, complete=complete))
        elif complete and response.body.strip():
            answer.take(dialect.read_answer(response.body))
    except DialectError as error:
        answer.outcome, answer.error = Outcome.BAD_PROTOCOL, str(error)
    answer.judge(stream=as_stream)
    return answer


def _is_stream(response: Response, *, asked: bool) -> bool:
    kind = response.headers.get("content-type", "")
    return "event-stream" in kind or (asked and "json" not in kind)


def _refusal(transcript: Transcript) -> Answer:
    status = transcript.response.status
    classes = {3: Outcome.HTTP_3XX, 4: Outcome.HTTP_4XX, 5: Outcome.HTTP_5XX}
    outcome = classes.get(status // 100, Outcome.BAD_PROTOCOL)
    message = error_message(transcript.response.body) or "no message"
    retry = transcript.response.headers.get("retry-after")
    return Answer(outcome, f"HTTP {status}: {message}" + (f" (retry-after: {retry})" if retry else ""))


def _read_events(answer: Answer, transcript: Transcript, dialect: Dialect, events: Sequence[SseEvent]) -> None:
    body = transcript.response.body
    if not events and any(line and not line.startswith(b":") for line in body.splitlines()):
        raise DialectError(f"not server-sent events: {body[:80]!r}")
    arrivals = _Arrivals(transcript)
    for index, event in enumerate(events):
        delta = dialect.read_event(event.data)
        if answer.take(delta):
            next_end = events[index + 1].end if index + 1 < len(events) else None
            at, width, shared = arrivals.of(event.end, next_end)
            answer.take_chunk(at, width, delta)
            answer.coalesced += shared


class _Arrivals:
    """Maps an offset in the body to the time at which its bytes arrived."""

    def __init__(self, transcript: Transcript) -> None:
        self._times = transcript.times()
        self._widths = transcript.widths()
        self._stamped = transcript.stamped
        self._reads = [index for index, _ in transcript.response.pieces]
        self._ends = list(accumulate(len(piece) for _, piece in transcript.response.pieces))

    def of(self, end: int, next_end: int | None) -> tuple[Ns, Ns, bool]:
        """Return (time, width of the interval, shared) of what ends at offset ``end``.

        The stamp is that of a read's newest byte. It is the exact time of an event that no other body bytes follow in
        the same read; of one that shares its read with a later event only an interval is known.
        """
        piece = bisect_left(self._ends, end)
        read = self._reads[piece]
        known = self._stamped and self._read_of_next_byte(piece, end) != read
        shared = next_end is not None and self._reads[bisect_left(self._ends, next_end)] == read
        return self._times[read], Ns(0) if known else self._widths[read], shared

    def _read_of_next_byte(self, piece: int, end: int) -> int | None:
        if end < self._ends[piece]:
            return self._reads[piece]
        return self._reads[piece + 1] if piece + 1 < len(self._reads) else None
