"""From a transcript to what was answered and when: pure functions, called when the response is over."""

import re
from collections.abc import Sequence
from itertools import accumulate

from loadgen.clock import Ns
from loadgen.record import Outcome
from loadgen.wire.answer import Answer
from loadgen.wire.dialect import Delta, Dialect, DialectError
from loadgen.wire.http1 import Response
from loadgen.wire.openai_chat import error_message
from loadgen.wire.sse import parse_sse, split_plain
from loadgen.wire.transcript import Arrivals, Transcript

_FIELDS = {b"", b"data", b"event", b"id", b"retry"}
"""Fields of server-sent events; the empty one is a comment's."""

_BLANK = re.compile(rb"\n\n")


def decode(
    transcript: Transcript, arrivals: Arrivals, dialect: Dialect, *, stream: bool, in_full: bool = True
) -> Answer:
    """Read the answer out of a transcript. The server's faults become outcomes; nothing is raised for them.

    ``in_full``: the text is needed, so that a stream that was drained lazily is parsed token by token after all.
    """
    response = transcript.response
    if response.status and response.status != 200:  # noqa: PLR2004
        return _refusal(transcript)
    answer = Answer(transcript.outcome, transcript.error)
    complete = transcript.outcome is Outcome.OK
    as_stream = _is_stream(response, asked=stream)
    body = response.body
    try:
        if as_stream and transcript.lazy and not in_full and split_plain(body) is not None:
            _read_both_ends(answer, dialect, body, _Clock(transcript, arrivals))
        elif as_stream:
            events = _events(answer, body, complete=complete)
            _read_events(answer, dialect, *events, _Clock(transcript, arrivals))
        elif complete and body.strip():
            answer.take(dialect.read_answer(body))
    except (DialectError, RecursionError) as error:  # the latter of JSON nested without end
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


def _events(answer: Answer, body: bytes, *, complete: bool) -> tuple[Sequence[bytes], Sequence[int]]:
    """Return the data of each event and the offset at which it ends; raises DialectError where there are none."""
    plain = split_plain(body)
    if plain is not None:
        # Each event is "data:" and its data, which a space may precede, and two line ends: all are found again.
        ends = [match.end() for match in _BLANK.finditer(body)]
        return plain, ends
    events = parse_sse(body, complete=complete)
    if not events and any(line.partition(b":")[0] not in _FIELDS for line in body.splitlines()):
        raise DialectError(f"not server-sent events: {body!r}")
    for event in events:
        if event.name == b"error":
            answer.take(Delta(error=error_message(event.data) or "an error event without a message"))
    said = [e for e in events if e.data.strip() and e.name != b"error"]
    return [e.data for e in said], [e.end for e in said]


def _read_events(
    answer: Answer, dialect: Dialect, events: Sequence[bytes], ends: Sequence[int], clock: "_Clock"
) -> None:
    read_event, take = dialect.read_event, answer.take
    for index, data in enumerate(events):
        delta = read_event(data)
        if take(delta):
            at, width = clock.at(ends[index])
            answer.take_chunk(at, width, delta)
            if index + 1 < len(ends) and clock.shares_read(ends[index + 1]):
                answer.coalesced += 1


def _read_both_ends(answer: Answer, dialect: Dialect, body: bytes, clock: "_Clock") -> None:
    """Parse a plain stream up to its first token and from its last one on; count by bytes what lies between."""
    end = _read_head(answer, dialect, body, clock)
    tail: list[tuple[bytes, int]] = []
    start = len(body)
    while start > end:
        event_end, start = start, body.rfind(b"\n\n", end - 2, start - 2) + 2
        data = body[start:event_end].removeprefix(b"data:").strip()
        tail.append((data, event_end))
        if dialect.has_token(data):
            break
    for data, event_end in reversed(tail):
        delta = dialect.read_event(data)
        if answer.take(delta):
            answer.take_chunk(*clock.at(event_end), delta)
    answer.text_known = False
    answer.counted_chunks = dialect.count_chunks(body)


def _read_head(answer: Answer, dialect: Dialect, body: bytes, clock: "_Clock") -> int:
    """Parse events until one holds a token; return the offset behind it."""
    end = 0
    while end < len(body):
        start, end = end, body.index(b"\n\n", end) + 2
        delta = dialect.read_event(body[start:end].removeprefix(b"data:").strip())
        if answer.take(delta):
            answer.take_chunk(*clock.at(end), delta)
            break
    return end


class _Clock:
    """Tells when the bytes up to an offset of the body had arrived; asked for ever larger offsets."""

    def __init__(self, transcript: Transcript, arrivals: Arrivals) -> None:
        pieces = transcript.response.pieces
        self._data = transcript.data
        self._arrivals = arrivals
        self._pieces = [piece for _, piece in pieces]
        self._reads = [read for read, _ in pieces]
        self._ends = list(accumulate(map(len, self._pieces)))
        self._piece = 0

    def at(self, end: int) -> tuple[Ns, Ns]:
        """Return (time, width of the interval) of what ends at offset ``end``.

        The stamp is that of a read's newest byte. It is the exact time of an event that nothing follows in the same
        read but the line end of its own chunk; of any other only an interval is known.
        """
        ends = self._ends
        piece = self._piece
        while ends[piece] < end:
            piece += 1
        self._piece = piece
        read = self._reads[piece]
        arrivals = self._arrivals
        known = arrivals.exact[read] and end == ends[piece] and self._ends_read(piece, read)
        return arrivals.at[read], Ns(0) if known else arrivals.widths[read]

    def _ends_read(self, piece: int, read: int) -> bool:
        data, tail = self._data[read], self._pieces[piece][-32:]
        return data.endswith(tail) or (data.endswith(b"\r\n") and data.endswith(tail, 0, -2))

    def shares_read(self, next_end: int) -> bool:
        """Return whether what ends at a later offset came in the same read."""
        piece, read = self._piece, self._reads[self._piece]
        while self._ends[piece] < next_end:
            piece += 1
            if self._reads[piece] != read:
                return False
        return True
