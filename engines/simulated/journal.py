"""What was truly sent, when: a line per answer. Answers are noted when they end and written when there is time."""

import json
import os
from bisect import bisect_left
from collections import deque
from dataclasses import dataclass
from operator import sub

from loadgen.engines.simulated.metrics import Metrics
from loadgen.engines.simulated.plan import Plan
from loadgen.engines.simulated.request import Chat


@dataclass(frozen=True, slots=True)
class Ended:
    """An answer of which nothing more will be sent."""

    request_id: str
    begun: int
    times: list[int]
    plan: Plan
    chat: Chat
    reason: str | None
    """As vLLM says it: ``length``, ``abort`` or ``error``; None if it is not to be counted."""


class Journal:
    """The log and the counts."""

    def __init__(self, log: str | None) -> None:
        self._log = None if log is None else os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._pending: deque[Ended] = deque()
        self.metrics = Metrics()
        self.note = self._pending.append
        """Takes what has ended; costs nothing."""

    def __bool__(self) -> bool:
        """Tell whether something is still to be written."""
        return bool(self._pending)

    def write_one(self) -> None:
        """Write a line, some 30 us."""
        ended = self._pending.popleft()
        tokens = ended.plan.tokens[len(ended.times) - 1] if ended.times else 0
        if ended.reason is not None:
            self._count(ended, ended.reason, tokens)
        if self._log is not None:
            os.write(self._log, _line(ended, tokens))

    def write_all(self) -> None:
        """Write all lines: before the counts are shown, and at the end."""
        while self._pending:
            self.write_one()

    def _count(self, ended: Ended, reason: str, tokens: int) -> None:
        metrics, times = self.metrics, ended.times
        metrics.finished[reason] += 1
        metrics.prompt_tokens += ended.chat.prompt
        metrics.generated_tokens += tokens
        if times:
            metrics.e2e.observe([times[-1] - ended.begun])
        chunks = list(map(times.__getitem__, ended.plan.chunks[: bisect_left(ended.plan.chunks, len(times))]))
        if chunks:
            metrics.ttft.observe([chunks[0] - ended.begun])
            metrics.itl.observe(list(map(sub, chunks[1:], chunks)))


def _line(ended: Ended, tokens: int) -> bytes:
    """Return the JSON. A list of integers is written by repr as JSON has it, and five times faster."""
    sent, kinds = len(ended.times), ended.plan.kinds
    kinds_json = ended.plan.kinds_json if sent == len(kinds) else json.dumps(kinds[:sent])
    return (
        f'{{"request_id":{json.dumps(ended.request_id)},"received_ns":{ended.begun},"sent_ns":{ended.times!r},'
        f'"kinds":{kinds_json},"output_tokens":{tokens}}}\n'
    ).encode()
