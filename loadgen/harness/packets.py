"""Messages at a port that others can reach: which are well-formed, and a count of those that are dropped."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar

import msgspec
from locust.rpc import Message

from loadgen.run.messages import unpack

T = TypeVar("T")

logger = logging.getLogger(__name__)

REPORT_S = 10.0
"""At most one line in this time about packets that were dropped, however many come."""

LARGEST_BYTES = 256 << 20
"""Of one packet. The largest that was measured to arrive whole, and quickly, had 100 MB."""


class _Heartbeat(msgspec.Struct):
    state: Literal["ready", "spawning", "running", "cleanup", "stopping", "stopped", "missing"]
    current_cpu_usage: float
    current_memory_usage: float = 0


class _Entry(msgspec.Struct):
    name: str | None
    method: str | None
    last_request_timestamp: float | None
    start_time: float
    num_requests: float
    num_none_requests: float
    num_failures: float
    total_response_time: float
    max_response_time: float
    min_response_time: float | None
    total_content_length: float
    response_times: dict[float, int]
    num_reqs_per_sec: dict[float, int]
    num_fail_per_sec: dict[float, int]


class _Error(msgspec.Struct):
    name: str | None
    method: str | None
    error: str | None
    occurrences: int
    first_seen: float | None = None
    last_seen: float | None = None


class _Users(msgspec.Struct):
    user_classes_count: dict[str, int]
    user_count: int


class _Stats(_Users):
    stats: list[_Entry]
    stats_total: _Entry
    errors: dict[str, _Error]
    loadgen: dict[str, Any] = {}


class _Logs(msgspec.Struct):
    worker_id: str
    logs: list[str]


class _Exception(msgspec.Struct):
    msg: str
    traceback: str


class _Version(msgspec.Struct):
    version: str


_SHAPES: Mapping[str, Any] = {
    "client_ready": str | int,
    "locustfile": _Version,
    "client_stopped": Any,
    "quit": Any,
    "spawning": Any,
    "heartbeat": _Heartbeat,
    "stats": _Stats,
    "spawning_complete": _Users,
    "logs": _Logs,
    "exception": _Exception,
}
"""Locust's own messages of a worker, as its master reads them."""

_OF_NEWCOMERS = {"client_ready", "locustfile"}


def decoded(data: bytes) -> Message | None:
    """Return a message, None for bytes that are none."""
    try:
        message = Message.unserialize(data)
    except Exception:  # noqa: BLE001 msgpack and Locust's hooks raise of everything on such bytes
        return None
    return message if isinstance(message.type, str) and isinstance(message.node_id, str) else None


def problem(message: Message, sender: str, joined: Mapping[str, int], ours: Mapping[str, object]) -> str | None:
    """Return what is wrong with a message to the master, None if nothing is.

    ``sender`` is the identity of its connection, ``joined`` has the identities that have said that they are workers,
    ``ours`` the further messages that the master listens to.
    """
    if message.node_id != sender:
        return "they speak for another worker"
    if message.type not in _SHAPES and message.type not in ours:
        return "their type is unknown"
    if message.type not in _OF_NEWCOMERS and sender not in joined:
        return "they come from a process that has not joined"
    try:
        content = msgspec.convert(message.data, _SHAPES.get(message.type, Any))
    except (msgspec.ValidationError, RecursionError):
        return f"their content is not that of {message.type!r}"
    if isinstance(content, _Logs) and content.worker_id != sender:
        return "they speak for another worker"
    return None


class Drops:
    """Counts packets that were dropped, and reports them now and then: a flood of them must not become one of lines."""

    def __init__(self) -> None:
        self._count = 0
        self._reported_at: float | None = None

    def note(self, why: str) -> None:
        """Count a packet; at once or later a line says how many there were, and why the last was dropped."""
        self._count += 1
        at = time.monotonic()
        if self._reported_at is None or at - self._reported_at >= REPORT_S:
            logger.warning("Dropped %d packets at the port of master and workers: %s", self._count, why)
            self._count, self._reported_at = 0, at


drops = Drops()
"""Of this process."""


def listener(
    kind: type[T], handle: Callable[[str, T], None], read: Callable[[object, type[T]], T] = unpack
) -> Callable[..., None]:
    """Make a listener of our messages of a kind; ``handle`` gets sender and content. Malformed ones are dropped.

    ``read`` raises msgspec.DecodeError for those.
    """

    def listen(msg: Message, **_: Any) -> None:  # noqa: ANN401 Locust's
        try:
            content = read(msg.data, kind)
        except msgspec.DecodeError:
            drops.note(f"their content is not that of {msg.type!r}")
            return
        handle(msg.node_id, content)

    return listen
