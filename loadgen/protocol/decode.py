"""Decodes a transcript into a completion. Pure functions, called after the response has ended."""

import re
from bisect import bisect_left
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from itertools import accumulate
from operator import eq

from loadgen.clock import Ns
from loadgen.protocol.api import Api, ApiError, Delta
from loadgen.protocol.completion import Completion
from loadgen.protocol.errors import error_message
from loadgen.protocol.uniform import holds_tokens_only
from loadgen.wire.http1 import Response
from loadgen.wire.kept import described
from loadgen.wire.retry import retry_after_s
from loadgen.wire.sse import BOM, parse_sse, split_both_ends, split_plain
from loadgen.wire.transcript import Arrivals, Transcript

_OK = 200
_FIELDS = {b"", b"data", b"event", b"id", b"retry"}
"""Fields of server-sent events; the empty one is a comment's."""

_EVENT_LINE = re.compile(rb"(?:\A|[\r\n])data:([^\r\n]++)(?=[\r\n])")
"""A whole line of data in a read, which also holds the framing of HTTP. It starts only where a line does: a search that
started anew inside of lines would take time that grows with the square of their length."""

_EVENT_ENDS = (b"\n\n\r\n", b"\n\n", b"\r\n\r\n\r\n", b"\r\r\r\n", b"\r\r")
"""How a read ends that ends with an event: with its blank line, and perhaps the line end of its HTTP chunk."""


def decode(transcript: Transcript, arrivals: Arrivals, api: Api, *, stream: bool, in_full: bool = True) -> Completion:
    """Read the answer out of a transcript; its outcome is not decided yet. Nothing is raised, whatever the server sent.

    ``in_full``: the text is needed, so that a lazily drained stream is decoded token by token after all.
    """
    response = transcript.response
    if response.status not in {0, _OK}:
        return Completion(api.produces, refusal=_refusal(response), retry_after_s=retry_after_s(response.headers))
    completion = Completion(api.produces, streamed=_is_stream(response, asked=stream))
    encoding = response.headers.get("content-encoding", "").strip().lower()
    if encoding not in {"", "identity"}:
        completion.unreadable = f"the answer is encoded as {encoding:.40}, though it was asked for as it is"
        return completion
    if transcript.too_long:  # what was read is of no use, and decoding it would delay everybody else
        return completion
    try:
        _read(completion, transcript, arrivals, api, in_full=in_full)
    except ApiError as error:
        said = described(error.data, response.headers.get("content-type", "")) if error.data else ""
        completion.unreadable = f"{error.message}: {said}" if said else error.message
    except RecursionError:  # of JSON that was decoded, and is nested too deep for what is done with it
        completion.unreadable = "the answer's JSON is nested too deep"
    return completion


def _read(completion: Completion, transcript: Transcript, arrivals: Arrivals, api: Api, *, in_full: bool) -> None:
    response = transcript.response
    body, complete = response.body, transcript.fault is None
    if not completion.streamed:
        if complete and body.strip():
            _read_whole(completion, api, body)
        return
    lookup = ArrivalLookup(transcript, arrivals)
    if transcript.lazy and not in_full and _read_both_ends(completion, api, body, response.pieces, lookup):
        completion.decode_text = partial(_whole_text, response, body, api, complete=complete)
    else:
        events, ends = _events(completion, response, body, complete=complete)
        _add(completion, api.read_events(events), ends, lookup)
    usage = completion.usage
    if usage is not None and usage.reasoning_tokens is not None:
        is_shown = not usage.reasoning_tokens or api.has_reasoning(body)
        completion.hidden_tokens = 0 if is_shown else usage.reasoning_tokens


def _read_whole(completion: Completion, api: Api, body: bytes) -> None:
    """Read an answer that was not streamed; an end mark of a stream may follow it all the same."""
    try:
        completion.add(api.read_answer(_without_end_mark(body)))
    except ApiError:
        if body.strip().count(b"\n") and all(line.startswith(b"{") for line in body.splitlines() if line.strip()):
            raise ApiError("not server-sent events, but NDJSON: an object of JSON on each line") from None
        raise


def _without_end_mark(body: bytes) -> bytes:
    before, mark, after = body.rpartition(b"\ndata:")
    return before if mark and b"\n" not in after.strip() else body


def _whole_text(response: Response, body: bytes, api: Api, *, complete: bool) -> str:
    whole = Completion(streamed=True)
    for said in api.read_events(_events(whole, response, body, complete=complete)[0]):
        if isinstance(said, str):
            whole.add_text(said)
        else:
            whole.add(said)
    return whole.text


def _is_stream(response: Response, *, asked: bool) -> bool:
    """Tell whether an answer is a stream of events: by its first bytes, as proxies label streams as they like."""
    for piece in response.pieces:
        if start := piece.removeprefix(BOM).lstrip():
            return start[:1] not in b"{["
    return asked or "event-stream" in response.headers.get("content-type", "")


def _refusal(response: Response) -> str:
    """Return status, message and advice when to retry, of a response that is not 200."""
    body = response.body
    said = error_message(body) or (described(body, response.headers.get("content-type", "")) if body.strip() else None)
    retry = response.headers.get("retry-after")
    message = f"HTTP {response.status}: {said or 'no message'}"
    return message + (f" (retry-after: {retry})" if retry else "")


def _events(
    completion: Completion, response: Response, body: bytes, *, complete: bool
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
            completion.add(Delta(error=said or "an error event without a message"))
    said_by = [e for e in events if e.data.strip() and e.name != b"error"]
    return [e.data for e in said_by], [e.end for e in said_by]


def _add(completion: Completion, said: Sequence[Delta | str], ends: Sequence[int], lookup: "ArrivalLookup") -> None:
    """Add the events of a stream, and the arrival times of its tokens."""
    chunks: list[int] = []
    for index, piece in enumerate(said):
        if isinstance(piece, str):
            completion.add_text(piece)
            chunks.append(index)
        elif completion.add(piece):
            chunks.append(index)
    lookup.stamp(completion, ends, chunks)


def _read_both_ends(
    completion: Completion, api: Api, body: bytes, pieces: Sequence[bytes], lookup: "ArrivalLookup"
) -> bool:
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
    _add(completion, said, both.ends, lookup)
    completion.skipped = True
    if completion.usage is None or not completion.usage.output_tokens:
        start, end = both.between
        parts = split_plain(body[start:end])
        between = api.read_events(parts[0]) if parts is not None else ()
        completion.counted_chunks = len(completion.chunk_times) + sum(map(_has_text, between))
    return True


def _has_text(said: Delta | str) -> bool:
    return bool(said if isinstance(said, str) else said.text)


def shows_token(api: Api, data: bytes) -> bool:
    """Tell whether a read holds a whole event with a token in it; its bytes may look like one that is none."""
    if not api.has_token(data):
        return False
    for event in _EVENT_LINE.findall(data):
        with suppress(ApiError, RecursionError):
            if api.read_event(event).text:
                return True
    return False


class ArrivalLookup:
    """Finds when the bytes up to an offset of the body had arrived.

    The stamp of a read is that of its newest byte. It is the exact time of an event that nothing follows in the same
    read but the line end of its own chunk. For any other event only an interval is known.
    """

    def __init__(self, transcript: Transcript, arrivals: Arrivals) -> None:
        self._transcript = transcript
        self._arrivals = arrivals

    def stamp(self, completion: Completion, ends: Sequence[int], chunks: Sequence[int]) -> None:
        """Set the times of a completion's chunks: those of its events, by their ends, that hold a token."""
        if not chunks:
            return
        response, arrivals = self._transcript.response, self._arrivals
        piece_ends = [0, *accumulate(map(len, response.pieces))]
        body_ends = [piece_ends[pieces] for pieces in response.pieces_until]
        reads = [bisect_left(body_ends, end) for end in ends]
        at = arrivals.at
        completion.chunk_times = [at[reads[chunk]] for chunk in chunks]
        shared = [*map(eq, reads, reads[1:]), False]
        completion.coalesced = sum(shared[chunk] for chunk in chunks)

        def width(chunk: int) -> Ns:
            read = reads[chunk]
            is_last_of_read = body_ends[read] == ends[chunk]
            ends_read = self._transcript.data[read].endswith(_EVENT_ENDS)
            known = is_last_of_read and ends_read and arrivals.is_exact(read)
            return Ns(0) if known else arrivals.width(read)

        completion.first_width, completion.last_width = width(chunks[0]), width(chunks[-1])
