"""From a transcript to what was answered and when: pure functions, called when the response is over."""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from operator import eq

from loadgen.clock import Ns
from loadgen.protocol.api import Api, ApiError, Delta
from loadgen.protocol.completion import Completion
from loadgen.protocol.errors import error_message
from loadgen.protocol.uniform import holds_tokens_only
from loadgen.record import Outcome
from loadgen.wire.http1 import Response
from loadgen.wire.kept import described
from loadgen.wire.sse import parse_sse, split_both_ends, split_plain
from loadgen.wire.transcript import Arrivals, Transcript

_FIELDS = {b"", b"data", b"event", b"id", b"retry"}
"""Fields of server-sent events; the empty one is a comment's."""

_EVENT_ENDS = (b"\n\n\r\n", b"\n\n", b"\r\n\r\n\r\n", b"\r\r\r\n", b"\r\r")
"""How a read ends that ends with an event: with its blank line, and perhaps the line end of its HTTP chunk."""


def decode(transcript: Transcript, arrivals: Arrivals, api: Api, *, stream: bool, in_full: bool = True) -> Completion:
    """Read the answer out of a transcript. The server's faults become outcomes; nothing is raised for them.

    ``in_full``: the text is needed, so that a stream that was drained lazily is parsed token by token after all.
    """
    response = transcript.response
    if response.status and response.status != 200:  # noqa: PLR2004
        return _refusal(transcript)
    answer = Completion(transcript.outcome, transcript.error)
    if transcript.too_long:  # what was read is of no use, and parsing it would hold up everybody else
        return answer
    complete = transcript.outcome is Outcome.OK
    as_stream = _is_stream(response, asked=stream)
    body = response.body
    try:
        if as_stream:
            clock = _Clock(transcript, arrivals)
            if not transcript.lazy or in_full or not _read_both_ends(answer, api, body, response.pieces, clock):
                events, ends = _events(answer, response, body, complete=complete)
                _take(answer, api.read_events(events), ends, clock)
        elif complete and body.strip():
            answer.take(api.read_answer(body))
    except ApiError as error:
        said = described(error.data, response.headers.get("content-type", "")) if error.data else ""
        answer.outcome, answer.error = Outcome.BAD_PROTOCOL, f"{error.message}: {said}" if said else error.message
    except RecursionError:  # of JSON that was decoded, and is too deep for what is done with it
        answer.outcome, answer.error = Outcome.BAD_PROTOCOL, "the answer's JSON is nested too deep"
    answer.judge(stream=as_stream)
    return answer


def _is_stream(response: Response, *, asked: bool) -> bool:
    kind = response.headers.get("content-type", "")
    return "event-stream" in kind or (asked and "json" not in kind)


def _refusal(transcript: Transcript) -> Completion:
    response = transcript.response
    classes = {3: Outcome.HTTP_3XX, 4: Outcome.HTTP_4XX, 5: Outcome.HTTP_5XX}
    outcome = classes.get(response.status // 100, Outcome.BAD_PROTOCOL)
    body = response.body
    said = error_message(body) or (described(body, response.headers.get("content-type", "")) if body.strip() else None)
    retry = response.headers.get("retry-after")
    message = f"HTTP {response.status}: {said or 'no message'}"
    return Completion(outcome, message + (f" (retry-after: {retry})" if retry else ""))


def _events(
    answer: Completion, response: Response, body: bytes, *, complete: bool
) -> tuple[Sequence[bytes], Sequence[int]]:
    """Return the data of each event and the offset at which it ends; raises ApiError where there are none."""
    if (plain := split_plain(body)) is not None:
        return plain
    events = parse_sse(body, complete=complete)
    if not events and any(line.partition(b":")[0] not in _FIELDS for line in body.splitlines()):
        what = described(body, response.headers.get("content-type", ""))
        raise ApiError(f"not server-sent events: {what}")
    for event in events:
        if event.name == b"error":
            said = error_message(event.data) or event.data.decode(errors="replace").strip()
            answer.take(Delta(error=said or "an error event without a message"))
    said_by = [e for e in events if e.data.strip() and e.name != b"error"]
    return [e.data for e in said_by], [e.end for e in said_by]


def _take(answer: Completion, said: Sequence[Delta | str], ends: Sequence[int], clock: "_Clock") -> None:
    """Add what the events of a stream say, and when those with a token had arrived."""
    chunks: list[int] = []
    for index, piece in enumerate(said):
        if isinstance(piece, str):
            answer.take_text(piece)
            chunks.append(index)
        elif answer.take(piece):
            chunks.append(index)
    clock.tell(answer, ends, chunks)


def _read_both_ends(answer: Completion, api: Api, body: bytes, pieces: Sequence[bytes], clock: "_Clock") -> bool:
    """Read a stream up to its first token and from its last one on.

    Returns False, with nothing read, unless all events in between are proven to be tokens: otherwise an error among
    them would go unseen. Both ends have to hold a token, or times would be those of others. How many tokens there are
    in between is counted only where the server does not say how many there were.
    """
    both = split_both_ends(body, api.has_token)
    if both is None:
        return False
    tail = len(both.parts) - both.head
    if not holds_tokens_only(body, *both.between, pieces[both.head : len(pieces) - tail], api):
        return False
    said = api.read_events(both.parts)
    if not any(map(_has_text, said[: both.head])) or not any(map(_has_text, said[both.head :])):
        return False
    _take(answer, said, both.ends, clock)
    answer.skipped = True
    if answer.usage is None or answer.usage.output_tokens is None:
        start, end = both.between
        parts = split_plain(body[start:end])
        between = api.read_events(parts[0]) if parts is not None else ()
        answer.counted_chunks = len(answer.chunk_times) + sum(map(_has_text, between))
    return True


def _has_text(said: Delta | str) -> bool:
    return bool(said if isinstance(said, str) else said.text)


class _Clock:
    """Tells when the bytes up to an offset of the body had arrived.

    The stamp of a read is that of its newest byte. It is the exact time of an event that nothing follows in the same
    read but the line end of its own chunk; of any other event only an interval is known.
    """

    def __init__(self, transcript: Transcript, arrivals: Arrivals) -> None:
        self._transcript = transcript
        self._arrivals = arrivals

    def tell(self, answer: Completion, ends: Sequence[int], chunks: Sequence[int]) -> None:
        """Give an answer the times of those of its events, by their ends, that hold a token."""
        if not chunks:
            return
        response, arrivals = self._transcript.response, self._arrivals
        piece_ends = [0, *accumulate(map(len, response.pieces))]
        body_ends = [piece_ends[pieces] for pieces in response.pieces_until]
        reads = [bisect_left(body_ends, end) for end in ends]
        at = arrivals.at
        answer.chunk_times = [at[reads[chunk]] for chunk in chunks]
        shared = [*map(eq, reads, reads[1:]), False]
        answer.coalesced = sum(shared[chunk] for chunk in chunks)

        def width(chunk: int) -> Ns:
            read = reads[chunk]
            is_last_of_read = body_ends[read] == ends[chunk]
            ends_read = self._transcript.data[read].endswith(_EVENT_ENDS)
            known = is_last_of_read and ends_read and arrivals.is_exact(read)
            return Ns(0) if known else arrivals.width(read)

        answer.first_width, answer.last_width = width(chunks[0]), width(chunks[-1])
