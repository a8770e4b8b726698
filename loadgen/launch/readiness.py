"""When an engine is up: its health says so, and it has generated something."""

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from loadgen.engines.engine import Engine
from loadgen.errors import EngineError
from loadgen.live.status import Status
from loadgen.protocol.client import Client, Settings
from loadgen.record import Outcome, Phase
from loadgen.request import Place, Request
from loadgen.wire.fault import WireError
from loadgen.wire.get import get
from loadgen.wire.response_reader import Timeouts
from loadgen.wire.target import parse_target
from loadgen.wire.waiting import PollWaiter

_OK = 200
_POLL_S = 0.25
_REQUEST_S = 5.0
_LAST_WORDS = 15
"""Lines of a log that are shown."""

_END_BYTES = 20_000
"""Of a log that are looked at: some engines print megabytes."""

_LONGEST_LINE = 300
_UNPRINTABLE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")

_LONGEST = 2_000
"""Of a text that an engine tells of itself, characters: chat templates are longer."""


@dataclass(frozen=True, slots=True)
class Started:
    """An engine that was started, and may be ready or not."""

    engine: Engine
    title: str
    """With the version that is started."""
    host: str
    serves: str
    """Name by which it is asked for its model."""
    log: Path
    died: Callable[[], int | None]
    """Returns the exit status of a process of it that has ended."""
    listens: Callable[[], bool]
    """Whether it is the engine that listens there: somebody else may have been faster."""


def wait_until_ready(started: Started, seconds: float, status: Status) -> None:
    """Wait until an engine reports that it is healthy, then request a short answer, which proves that it generates.

    An engine without a health route is up when it listens; the request is repeated until it is answered. Raises
    EngineError with the last lines of the log if a process of the engine ends, if the answer is not valid, or if the
    time is over.
    """
    due = time.monotonic() + seconds
    while not (_is_up(started) and started.listens()):
        _wait(started, due, seconds, status)
    while (problem := _answers_with(started, due - time.monotonic())) is not None:
        if started.engine.health is not None:
            raise EngineError(f"{started.title} is up but does not answer: {problem}", _end_of(started.log))
        _wait(started, due, seconds, status, problem)


def _wait(started: Started, due: float, seconds: float, status: Status, problem: str | None = None) -> None:
    if (ended := started.died()) is not None:
        last = last_words(started.log, 1)
        raise EngineError(f"{started.title} ended with status {ended} while it started: {last}", _end_of(started.log))
    if time.monotonic() > due:
        said = f", it says: {problem}" if problem else ""
        raise EngineError(
            f"{started.title} was not ready after {seconds:.0f} s (--deadline, startup_deadline){said}",
            _end_of(started.log),
        )
    status.now(f"waiting for {started.title}: {last_words(started.log, 1).strip()[:100]}")
    time.sleep(_POLL_S)


def _is_up(started: Started) -> bool:
    try:
        reply = get(parse_target(started.host), started.engine.health or "/", PollWaiter(), timeout=_REQUEST_S)
    except WireError:
        return False
    return reply.status == _OK or started.engine.health is None


def _answers_with(started: Started, seconds: float) -> str | None:
    """Ask for an answer; return what came instead, None where it came."""
    limit = max(seconds, _REQUEST_S)
    settings = Settings(parse_target(started.host), started.engine.api, Timeouts(10, limit, limit, limit))
    place = Place(phase=Phase.WARMUP)
    request = Request(id="first", input="Say hello.", model=started.serves, max_tokens=8, stream=False, place=place)
    record = Client(settings, PollWaiter()).send(request).record
    if record.outcome is Outcome.OK and (record.output_tokens or record.output_characters):
        return None
    return record.error or "its answer was empty"


def _end_of(log: Path) -> str:
    return f"The end of its log:\n{last_words(log)}"


def says(engine: Engine, host: str) -> dict[str, Any]:
    """Return what the running engine tells of its version and flags, by route; what it does not tell is absent."""
    found: dict[str, Any] = {}
    for route in engine.info_routes:
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
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _END_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return "(it has printed nothing)"
    shown = [_UNPRINTABLE.sub("", line)[:_LONGEST_LINE] for line in text.strip().splitlines()[-lines:]]
    return "\n".join(shown) or "(it has printed nothing)"


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
