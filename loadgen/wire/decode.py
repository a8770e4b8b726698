"""From a transcript to what was answered and when: pure functions, called when the response is over."""

import re
from collections.abc import Sequence
from itertools import accumulate

from loadgen.clock import Ns
from loadgen.record import Outcome
from loadgen.wire.answer import Answer
from loadgen.wire.dialect import Dialect, DialectError
from loadgen.wire.http1 import Response
from loadgen.wire.openai_chat import error_message
from loadgen.wire.sse import parse_sse, split_plain
from loadgen.wire.transcript import Arrivals, Transcript

_BLANK = re.compile(rb"\n\n")


def decode(transcript: Transcript, arrivals: Arrivals, dialect: Dialect, *, stream: bool) -> Answer:
    """Read the answer out of a transcript. The server's faults become outcomes; nothing is raised for them."""
    response = transcript.response
    if response.status and response.status != 200:  # noqa: PLR2004
        return _refusal(transcript)
    answer = Answer(transcript.outcome, transcript.error)
    complete = transcript.outcome is Outcome.OK
    as_stream = _is_stream(response, asked=stream)
    body = response.body
    try:
        if as_stream:
            _read_events(answer, dialect, *_events(body, complete=complete), _Clock(response.pieces, arrivals))
        elif complete and body.strip():
            answer.take(dialect.read_answer(body))
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


def _events(body: bytes, *, complete: bool) -> tuple[Sequence[bytes], Sequence[int]]:
    """Return the data of each event and the offset at which it ends; raises DialectError where there are none."""
    plain = split_plain(body)
    if plain is not None:
        # Each event is "data:" and its data, which a space may precede, and two line ends: all are found again.
        ends = [match.end() for match in _BLANK.finditer(body)]
        return plain, ends
    events = parse_sse(body, complete=complete)
    if not events and any(line and not line.startswith(b":") for line in body.splitlines()):
        raise DialectError(f"not server-sent events: {body[:80]!r}")
    return [e.data for e in events], [e.end for e in events]


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


class _Clock:
    """Tells when the bytes up to an offset of the body had arrived; asked for ever larger offsets."""

    def __init__(self, pieces: Sequence[tuple[int, bytes]], arrivals: Arrivals) -> None:
        self._arrivals = arrivals
        self._reads = [read for read, _ in pieces]
        self._ends = list(accumulate(len(piece) for _, piece in pieces))
        self._piece = 0

    def at(self, end: int) -> tuple[Ns, Ns]:
        """Return (time, width of the interval) of what ends at offset ``end``.

        The stamp is that of a read's newest byte. It is the exact time of an event that no other body bytes follow in
        the same read; of one that shares its read with more only an interval is known.
        """
        ends, reads = self._ends, self._reads
        piece = self._piece
        while ends[piece] < end:
            piece += 1
        self._piece = piece
        read = reads[piece]
        arrivals = self._arrivals
        more_follows = end < ends[piece] or (piece + 1 < len(reads) and reads[piece + 1] == read)
        known = arrivals.exact[read] and not more_follows
        return arrivals.at[read], Ns(0) if known else arrivals.widths[read]

    def shares_read(self, next_end: int) -> bool:
        """Return whether what ends at a later offset came in the same read."""
        piece, read = self._piece, self._reads[self._piece]
        while self._ends[piece] < next_end:
            piece += 1
            if self._reads[piece] != read:
                return False
        return True
