"""A script: when which bytes of an answer are sent. Pure, so that a test can read it."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from engines.simulated import wire

MS = 1_000_000


@dataclass(frozen=True, slots=True)
class Script:
    """How each answer goes; times in ms from the arrival of the request."""

    ttft_ms: float = 50.0
    itl_ms: float = 10.0
    jitter: float = 0.0
    """Gaps between chunks are drawn from itl_ms * (1 +- jitter)."""
    burst: int = 1
    """Chunks that are held back and sent at once, as by a server that flushes late."""
    tokens_per_chunk: int = 1
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
    fail_at: int | None = None
    """Index of the chunk in whose place an error event is sent."""
    status: int = 200
    """Answer with this status instead."""


@dataclass(frozen=True, slots=True)
class Send:
    """One send: when, what, and what it is made of: h(ead) r(ole) t(oken) u(sage) d(one) e(nd) f(ailure)."""

    at: int
    """ns from the arrival of the request."""
    data: bytes
    kinds: str


def timeline(script: Script, output: int, given: int, seed: str) -> Sequence[Send]:
    """Return the sends of one streamed answer of ``output`` tokens, in order of time."""
    if script.jitter:
        return _timeline(script, output, given, seed)
    return _shared(script, output, given)


@lru_cache(maxsize=64)
def _shared(script: Script, output: int, given: int) -> Sequence[Send]:
    return _timeline(script, output, given, "")


def _timeline(script: Script, output: int, given: int, seed: str) -> Sequence[Send]:
    sends = [Send(0, b"", "h")]
    if script.role == "early":
        sends.append(Send(0, wire.role(), "r"))
    elif script.role == "first":
        sends.append(Send(int(script.ttft_ms * MS), wire.role(), "r"))
    sends += _chunks(script, output, seed)
    last = sends[-1].at
    if script.fail_at is None:
        sends.append(Send(last + int(script.done_ms * MS), wire.usage(given, output) + wire.done(), "ud"))
    if not script.never_close:
        sends.append(Send(sends[-1].at + int(script.close_ms * MS), wire.LAST_CHUNK, "e"))
    return _buffered(sends, script.buffer_bytes) if script.buffer_bytes else tuple(_joined(sends))


def _chunks(script: Script, output: int, seed: str) -> list[Send]:
    draw = random.Random(seed)
    at = script.ttft_ms * MS
    count = -(-output // script.tokens_per_chunk)
    times: list[int] = []
    for _ in range(count):
        times.append(int(at))
        at += script.itl_ms * MS * (1 + script.jitter * draw.uniform(-1, 1))
    sends: list[Send] = []
    for index in range(count):
        held_until = times[min(count - 1, index - index % script.burst + script.burst - 1)]
        if index == script.fail_at:
            return [*sends, Send(held_until, wire.error_event(), "f")]
        left = output - index * script.tokens_per_chunk
        finish = "length" if index == count - 1 else None
        sends.append(Send(held_until, wire.tokens(min(left, script.tokens_per_chunk), finish), "t"))
    return sends


def _joined(sends: Sequence[Send]) -> list[Send]:
    """Put the end of the response into the send before it where no time lies between; all else goes out apart."""
    *others, before, end = sends
    if end.kinds == "e" and end.at == before.at:
        return [*others, Send(before.at, before.data + end.data, before.kinds + end.kinds)]
    return list(sends)


def _buffered(sends: Sequence[Send], size: int) -> Sequence[Send]:
    """Hold bytes back until a block is full; what is left goes out with the last one."""
    passed: list[Send] = [sends[0]]
    data, kinds = b"", ""
    for send in sends[1:]:
        data, kinds = data + send.data, kinds + send.kinds
        if len(data) >= size or send is sends[-1]:
            passed.append(Send(send.at, data, kinds))
            data, kinds = b"", ""
    return tuple(passed)
