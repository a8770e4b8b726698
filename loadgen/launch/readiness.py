"""When an engine is up: its health says so, and it has generated something."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from engines.engine import Engine
from loadgen.errors import UsageError
from loadgen.live.status import Status
from loadgen.record import Outcome, Phase, RequestRecord
from loadgen.wire.client import Client, Settings
from loadgen.wire.connection import WireError
from loadgen.wire.dialect import Ask
from loadgen.wire.get import get
from loadgen.wire.job import Job
from loadgen.wire.reception import Timeouts
from loadgen.wire.target import parse_target
from loadgen.wire.waiting import PollWaiter

_OK = 200
_POLL_S = 0.25
_REQUEST_S = 5.0
_LAST_WORDS = 15
"""Lines of a log that are shown."""

_LONGEST = 2_000
"""Of a text that an engine tells of itself, characters: chat templates are longer."""


def wait_until_up(
    engine: Engine, host: str, log: Path, *, died: Callable[[], int | None], seconds: float, status: Status
) -> None:
    """Wait until an engine's health says that it is up, or until it listens, where it has none.

    ``died`` returns the exit status of a process of it that has ended. Raises UsageError with the engine's last words
    if one does, or if the time is over.
    """
    began = time.monotonic()
    target = parse_target(host)
    while True:
        if (ended := died()) is not None:
            raise UsageError(f"{engine.title} ended with status {ended} while it started:\n{last_words(log)}")
        try:
            reply = get(target, engine.health or "/v1/models", PollWaiter(), timeout=_REQUEST_S)
            if reply.status == _OK or engine.health is None:
                return
        except WireError:
            pass
        if time.monotonic() - began > seconds:
            raise UsageError(
                f"{engine.title} was not ready after {seconds:.0f} s (--deadline, startup_deadline). Its log ends:\n"
                f"{last_words(log)}"
            )
        status.now(f"waiting for {engine.title}: {_last_line(log)}")
        time.sleep(_POLL_S)


def generate(engine: Engine, host: str, serves: str, *, seconds: float, log: Path) -> None:
    """Have it generate something, as the proof that it can; raises UsageError with what it said instead."""
    settings = Settings(parse_target(host), engine.dialect, Timeouts(10, seconds, seconds, seconds))
    records: list[RequestRecord] = []
    ask = Ask("Say hello.", serves, 8, 0.0, stream=False)
    Client(settings, PollWaiter()).send(Job("first", ask, Phase.WARMUP, 0), records.append)
    (record,) = records
    if record.outcome is not Outcome.OK or not (record.output_tokens or record.output_characters):
        said = record.error or "its answer was empty"
        raise UsageError(f"{engine.title} is up but does not answer: {said}\nThe end of its log:\n{last_words(log)}")


def says(engine: Engine, host: str) -> dict[str, Any]:
    """Return what the running engine tells of its version and flags, by route; what it does not tell is absent."""
    found: dict[str, Any] = {}
    for route in engine.tells:
        try:
            reply = get(parse_target(host), route, PollWaiter(), timeout=_REQUEST_S)
        except WireError:
            continue
        if reply.status == _OK:
            found[route] = _shortened(_decoded(reply.body))
    return found


def last_words(log: Path, lines: int = _LAST_WORDS) -> str:
    """Return the end of a log."""
    try:
        text = log.read_bytes()[-100_000:].decode(errors="replace")
    except OSError:
        return "(it has printed nothing)"
    return "\n".join(text.strip().splitlines()[-lines:]) or "(it has printed nothing)"


def _last_line(log: Path) -> str:
    return last_words(log, 1).strip()[:100]


def _decoded(body: bytes) -> Any:  # noqa: ANN401 whatever it tells
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return body.decode(errors="replace")


def _shortened(told: Any) -> Any:  # noqa: ANN401
    """Leave long texts out, however deep: they are templates and vocabularies."""
    if isinstance(told, dict):
        return {name: _shortened(value) for name, value in told.items()}
    if isinstance(told, list):
        return [_shortened(value) for value in told]
    return told[:_LONGEST] if isinstance(told, str) else told
