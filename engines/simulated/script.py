"""A script: when which bytes of an answer are sent. Pure, so that a test can read it."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from loadgen.engines.simulated import wire

MS = 1_000_000


@dataclass(frozen=True, slots=True)
class Script:
    """How each answer goes; times in ms from the arrival of the request, chunks counted from 0."""

    ttft_ms: float = 50.0
    itl_ms: float = 10.0
    jitter: float = 0.0
    """Gaps between chunks are drawn from itl_ms * (1 +- jitter), the same ones for the same request."""
    burst: int = 1
    """Chunks that are held back and sent at once, as by a server that flushes late."""
    tokens_per_chunk: int = 1
    tokens_per_chunk_max: int = 0
    """If larger, each chunk holds a number of tokens that is drawn from tokens_per_chunk to here."""
    role: str = "first"
    """When the role chunk goes out: ``early`` (at once), ``first`` (with the first token, apart) or ``none``."""
    buffer_bytes: int = 0
    """Output is passed on in blocks of this size, as by a buffering proxy; 0: at once."""
    done_ms: float = 0.0
    """From the last token to usage and ``[DONE]``."""
    close_ms: float = 0.0
    """From there to the end of the response and the close."""
    never_close: bool = False
    """Do not end the response: no last chunk, no close."""
    no_usage: bool = False
    """Never send usage, whatever the request asks for."""
    stall_at: int | None = None
    """Index of the chunk before which the answer stands still for stall_ms."""
    stall_ms: float = 0.0
    fail_at: int | None = None
    """Index of the chunk in whose place an error event is sent."""
    reset_at: int | None = None
    """Index of the chunk in whose place the connection is reset."""
    status: int = 200
    """Answer with this status instead, at once."""
    model: str = wire.MODEL
    """The name under which it serves. What a request asks for is not looked at."""
    prefix_cache: bool = False
    """A prompt that was asked before is found in the prefix cache: it is counted so, and takes a profile no prefill."""


class Send(NamedTuple):
    """One send: when, what, and what it is made of.

    The kinds: h(ead) r(ole) t(oken chunk) u(sage) d(one) e(nd) f(ailure) and, without bytes, x (a reset).
    """

    at: int
    """ns from the arrival of the request."""
    data: bytes
    kinds: str
    tokens: int = 0


def timeline(script: Script, output: int, given: int, seed: str, *, usage: bool = True) -> Sequence[Send]:
    """Return the sends of one streamed answer of ``output`` tokens, in order of time."""
    sends = [Send(0, b"", "h")]
    if script.role == "early":
        sends.append(Send(0, wire.role(script.model), "r"))
    elif script.role == "first":
        sends.append(Send(int(script.ttft_ms * MS), wire.role(script.model), "r"))
    sends += _chunks(script, output, seed)
    if sends[-1].kinds == "t":
        with_usage = usage and not script.no_usage
        end = wire.usage(script.model, given, output) + wire.done() if with_usage else wire.done()
        sends.append(Send(sends[-1].at + int(script.done_ms * MS), end, "ud" if with_usage else "d"))
    if not script.never_close and sends[-1].kinds != "x":
        sends.append(Send(sends[-1].at + int(script.close_ms * MS), wire.LAST_CHUNK, "e"))
    return _buffered(sends, script.buffer_bytes) if script.buffer_bytes else tuple(_joined(sends))


def _chunks(script: Script, output: int, seed: str) -> list[Send]:
    draw = random.Random(seed)
    counts = _counts(script, output, draw)
    times = _times(script, len(counts), draw)
    last = len(counts) - 1
    sends: list[Send] = []
    for index, count in enumerate(counts):
        at = times[min(last, index - index % script.burst + script.burst - 1)]
        if index == script.reset_at:
            return [*sends, Send(at, b"", "x")]
        if index == script.fail_at:
            return [*sends, Send(at, wire.error_event(), "f")]
        sends.append(Send(at, wire.tokens(script.model, count, "length" if index == last else None), "t", count))
    return sends


def _counts(script: Script, output: int, draw: random.Random) -> list[int]:
    """Return how many tokens each chunk holds."""
    least, most = script.tokens_per_chunk, script.tokens_per_chunk_max
    counts: list[int] = []
    left = output
    while left:
        count = min(left, least if most <= least else draw.randint(least, most))
        counts.append(count)
        left -= count
    return counts


def _times(script: Script, chunks: int, draw: random.Random) -> list[int]:
    """Return when each chunk is made."""
    at, gap, jitter = script.ttft_ms * MS, script.itl_ms * MS, script.jitter
    stall_at = -1 if script.stall_at is None else script.stall_at
    times: list[int] = []
    for index in range(chunks):
        if index == stall_at:
            at += script.stall_ms * MS
        times.append(int(at))
        at += gap * (1 + jitter * (2 * draw.random() - 1)) if jitter else gap
    return times


def _joined(sends: Sequence[Send]) -> list[Send]:
    """Put the end of the response into the send before it where no time lies between; all else goes out apart."""
    *others, before, end = sends
    if end.kinds == "e" and end.at == before.at:
        return [*others, Send(before.at, before.data + end.data, before.kinds + end.kinds, before.tokens)]
    return list(sends)


def _buffered(sends: Sequence[Send], size: int) -> Sequence[Send]:
    """Hold bytes back until a block is full; what is left goes out with the last one."""
    passed: list[Send] = [sends[0]]
    data, kinds, tokens = b"", "", 0
    for send in sends[1:]:
        data, kinds, tokens = data + send.data, kinds + send.kinds, tokens + send.tokens
        if len(data) >= size or send is sends[-1]:
            passed.append(Send(send.at, data, kinds, tokens))
            data, kinds, tokens = b"", "", 0
    return tuple(passed)
