"""A script's sends in columns, made once and shared by all requests that are answered alike."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

from loadgen.engines.simulated import wire
from loadgen.engines.simulated.request import Chat
from loadgen.engines.simulated.script import Script, Send, timeline

FD_BITS = 20
"""What is due is kept in a heap of integers, due time and below it so many bits of file descriptor: integers compare
several times faster than tuples."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One answer: parallel columns of its sends."""

    offsets: tuple[int, ...]
    """ns from the arrival of the request, shifted as in the heap."""
    data: tuple[bytes, ...]
    kinds: tuple[str, ...]
    tokens: tuple[int, ...]
    """How many tokens went out up to and with each send."""
    kinds_json: str
    """The kinds, as the log has them."""
    chunks: tuple[int, ...]
    """For each chunk of tokens the index of its send; empty if the answer is no stream."""


def plan_for(script: Script, chat: Chat, seed: str, *, keep_alive: bool) -> Plan:
    """Return how a chat is answered."""
    drawn = script.jitter or script.tokens_per_chunk_max > script.tokens_per_chunk
    return _plan(script, chat, seed, keep_alive) if drawn else _shared(script, chat, keep_alive)


@lru_cache(maxsize=1024)
def _shared(script: Script, chat: Chat, keep_alive: bool) -> Plan:  # noqa: FBT001 a key of the cache
    return _plan(script, chat, "", keep_alive)


def _plan(script: Script, chat: Chat, seed: str, keep_alive: bool) -> Plan:  # noqa: FBT001
    if script.status != 200:  # noqa: PLR2004
        body = wire.answer(script.status, wire.error(script.status, "scripted status"), keep_alive=keep_alive)
        return _columns([Send(0, body, "e")])
    sends = timeline(script, chat.output, chat.prompt, seed, usage=chat.usage)
    if chat.stream:
        return _columns([Send(0, wire.head(keep_alive=keep_alive), "h"), *sends[1:]])
    usage = None if script.no_usage else chat.prompt
    body = wire.answer(200, wire.whole(script.model, usage, chat.output), keep_alive=keep_alive)
    return _columns([Send(sends[-1].at, body, "t" * chat.output + "e", chat.output)])


def _columns(sends: Sequence[Send]) -> Plan:
    offsets, data, kinds, tokens = zip(*sends, strict=True)
    streamed = kinds[0] == "h"
    chunks = tuple(i for i, k in enumerate(kinds) for _ in range(k.count("t"))) if streamed else ()
    shifted = tuple(offset << FD_BITS for offset in offsets)
    return Plan(shifted, data, kinds, tuple(accumulate(tokens)), json.dumps(kinds), chunks)
