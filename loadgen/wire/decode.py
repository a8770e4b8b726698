"""From a transcript to what was answered and when: pure functions, called when the response is over."""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from operator import eq

from loadgen.clock import Ns
from loadgen.record import Outcome
from loadgen.wire.answer import Answer
from loadgen.wire.dialect import Delta, Dialect, DialectError
from loadgen.wire.http1 import Response
from loadgen.wire.openai_chat import error_message
from loadgen.wire.sse import parse_sse, split_both_ends, split_plain
from loadgen.wire.transcript import Arrivals, Transcript

_FIELDS = {b"", b"data", b"event", b"id", b"retry"}
"""Fields of server-sent events; the empty one is a comment's."""

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
        if as_stream:
            clock = _Clock(transcript, arrivals)
            if not transcript.lazy or in_full or not _read_both_ends(answer, dialect, body, clock):
                _read_events(answer, dialect, *_events(answer, body, complete=complete), clock)
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
    if (plain := split_plain(body)) is not None:
        return plain
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
    clock.tell(answer, ends, chunks)


def _read_both_ends(answer: Answer, dialect: Dialect, body: bytes, clock: "_Clock") -> bool:
    """Read a stream up to its first token and from its last one on; return False where it is not of the plain shape.

    What lies between is counted by its bytes, and only where the server did not say how many tokens there were.
    """
    both_ends = split_both_ends(body, dialect.has_token)
    if both_ends is None:
        return False
    _read_events(answer, dialect, *both_ends, clock)
    answer.skipped = True
    if answer.usage is None or answer.usage.output_tokens is None:
        answer.counted_chunks = dialect.count_chunks(body)
    return True


class _Clock:
    """Tells when the bytes up to an offset of the body had arrived.

    The stamp of a read is that of its newest byte. It is the exact time of an event that nothing follows in the same
    read but the line end of its own chunk; of any other event only an interval is known.
    """

    def __init__(self, transcript: Transcript, arrivals: Arrivals) -> None:
        self._transcript = transcript
        self._arrivals = arrivals

    def tell(self, answer: Answer, ends: Sequence[int], chunks: Sequence[int]) -> None:
        """Give an answer the times of those of its events, by their ends, that hold a token."""
        if not chunks:
            return
        response, arrivals = self._transcript.response, self._arrivals
        piece_ends = list(accumulate(map(len, response.pieces)))
        read_of_piece = response.read_of_piece
        its_piece = [bisect_left(piece_ends, end) for end in ends]
        reads = [read_of_piece[piece] for piece in its_piece]
        at = arrivals.at
        answer.chunk_times = [at[reads[chunk]] for chunk in chunks]
        shared = [*map(eq, reads, reads[1:]), False]
        answer.coalesced = sum(shared[chunk] for chunk in chunks)

        def width(chunk: int) -> Ns:
            piece, read = its_piece[chunk], reads[chunk]
            is_last_of_read = piece + 1 == len(read_of_piece) or read_of_piece[piece + 1] != read
            ends_read = self._transcript.data[read].endswith(_EVENT_ENDS)
            known = is_last_of_read and ends_read and piece_ends[piece] == ends[chunk] and arrivals.is_exact(read)
            return Ns(0) if known else arrivals.width(read)

        answer.first_width, answer.last_width = width(chunks[0]), width(chunks[-1])
