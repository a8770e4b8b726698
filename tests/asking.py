"""Requests of tests that are about something else than the request."""

from typing import Any

from loadgen.request import Request


def question(text: str = "Why?", **asked: Any) -> Request:
    """A request with everything that a test does not care about filled in."""
    return Request(**{"id": "r1", "input": text, "model": "scripted", "max_tokens": 8} | asked)
