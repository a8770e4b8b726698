"""A prefix cache that knows whole prompts only, and forgets none."""

import json

from loadgen.engines.simulated.metrics import Metrics


class PromptCache:
    """The prompts that were asked so far."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._known: set[str] = set()

    def look_up(self, body: bytes, tokens: int) -> bool:
        """Tell whether the messages of a chat were asked before; keep them, and count their tokens."""
        messages = json.dumps(json.loads(body)["messages"], sort_keys=True)
        found = messages in self._known
        self._known.add(messages)
        self._metrics.prefix_queries += tokens
        self._metrics.prefix_hits += tokens if found else 0
        return found
