"""What the loops have in common: their options, who asks next, and the report. Standard library only."""

import argparse
import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of a loop."""
    parser.add_argument("--url", help="base URL, with /v1")
    parser.add_argument("--model")
    parser.add_argument("--prompt")
    parser.add_argument("--streams", type=int)
    parser.add_argument("--requests", type=int)
    parser.add_argument("--tokens", type=int)
    parser.add_argument("--spread", type=float, help="seconds over which the streams start")
    parser.add_argument("--report", help="file to write")


class Plan:
    """One run: a closed loop of streams that share a number of requests."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.streams: int = options.streams
        self.requests: int = options.requests
        self.tokens: int = options.tokens
        self.url: str = options.url
        self.model: str = options.model
        self.messages = [{"role": "user", "content": options.prompt}]
        self._spread: float = options.spread
        self._report = Path(options.report)
        self._ids = (f"loop-{index}" for index in range(self.requests))
        self._answers: list[dict[str, Any]] = []

    @classmethod
    def from_command_line(cls) -> "Plan":
        """Parse the arguments of this program."""
        parser = argparse.ArgumentParser(description=__doc__)
        add_options(parser)
        return cls(parser.parse_args())

    @property
    def body(self) -> dict[str, Any]:
        """The request."""
        return {
            "model": self.model,
            "messages": self.messages,
            "max_tokens": self.tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    def starts(self) -> Iterator[float]:
        """When each stream starts, seconds from the start of the run."""
        return (index * self._spread / self.streams for index in range(self.streams))

    def next_request(self) -> str | None:
        """Return the id of the next request of any stream; None when all have been sent."""
        return next(self._ids, None)

    def note(self, request_id: str, sent: float, chunks: list[float]) -> None:
        """Note an answer: when it was asked for and when each chunk with content came, s. Failures are not noted."""
        if not chunks:
            return
        gaps = [1000 * (after - before) for before, after in pairwise(chunks)]
        self._answers.append({"request_id": request_id, "ttft_ms": 1000 * (chunks[0] - sent), "itl_ms": gaps})

    def report(self) -> None:
        """Write what was noted."""
        self._report.write_text(json.dumps(self._answers))
