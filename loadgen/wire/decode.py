"""From a transcript to what was answered and when: pure functions, called when the response is over."""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

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
_EVENT_ENDS = (b"\n\n\r\n", b"\n\n", b"\r\n\r\n\r\n", b"\r\r\r\n", b"\r\r")
"""How a read ends that ends with an event: with its blank line, and perhaps the line end of its HTTP chunk."""


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
    chunks: list[int] = []
    for index, said in enumerate(dialect.read_events(events)):
        if isinstance(said, str):
            answer.take_text(said)
            chunks.append(index)
        elif answer.take(said):
            chunks.append(index)
    if chunks:
        clock.tell(answer, np.array(ends, dtype=np.int64), np.array(chunks))


def _read_both_ends(answer: Answer, dialect: Dialect, body: bytes, clock: "_Clock") -> None:
    """Parse a plain stream up to its first token and from its last one on; count by bytes what lies between."""
    end = _read_head(answer, dialect, body)
    token_ends = [end] if answer.chunk_tokens else []
    tail: list[tuple[bytes, int]] = []
    start = len(body)
    while start > end:
        event_end, start = start, body.rfind(b"\n\n", end - 2, start - 2) + 2
        data = body[start:event_end].removeprefix(b"data:").strip()
        tail.append((data, event_end))
        if dialect.has_token(data):
            break
    for data, event_end in reversed(tail):
        if answer.take(dialect.read_event(data)):
            token_ends.append(event_end)
    if token_ends:
        clock.tell(answer, np.array(token_ends, dtype=np.int64), np.arange(len(token_ends)))
        answer.coalesced = 0  # not looked at
    answer.text_known = False
    answer.counted_chunks = dialect.count_chunks(body)


def _read_head(answer: Answer, dialect: Dialect, body: bytes) -> int:
    """Parse events until one holds a token; return the offset behind it."""
    end = 0
    while end < len(body):
        start, end = end, body.index(b"\n\n", end) + 2
        if answer.take(dialect.read_event(body[start:end].removeprefix(b"data:").strip())):
            break
    return end


class _Clock:
    """Tells when the bytes up to an offset of the body had arrived.

    The stamp of a read is that of its newest byte. It is the exact time of an event that nothing follows in the same
    read but the line end of its own chunk; of any other event only an interval is known.
    """

    def __init__(self, transcript: Transcript, arrivals: Arrivals) -> None:
        self._transcript = transcript
        self._arrivals = arrivals

    def tell(self, answer: Answer, ends: NDArray[np.int64], chunks: NDArray[np.int64]) -> None:
        """Give an answer the times of those of its events, by their ends, that hold a token."""
        arrivals, response = self._arrivals, self._transcript.response
        read_of_piece = np.array([read for read, _ in response.pieces])
        piece_ends = np.cumsum([len(piece) for _, piece in response.pieces])
        pieces = np.searchsorted(piece_ends, ends)
        reads = read_of_piece[pieces]
        its_piece, its_read = pieces[chunks], reads[chunks]
        is_last_of_read = np.append(np.diff(read_of_piece) != 0, [True])[its_piece]
        read_ends_with_event = np.array([data.endswith(_EVENT_ENDS) for data in self._transcript.data])[its_read]
        ends_piece = piece_ends[its_piece] == ends[chunks]
        known = is_last_of_read & read_ends_with_event & ends_piece & arrivals.exact[its_read]
        answer.chunk_times += arrivals.at[its_read].tolist()
        answer.chunk_widths += np.where(known, 0, arrivals.widths[its_read]).tolist()
        answer.coalesced += int((np.append(reads[1:], -1) == reads)[chunks].sum())
