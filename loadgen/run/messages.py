"""Messages between master and workers; msgpack in one field of Locust's own messages."""

from typing import Any, TypeVar

import msgspec

from loadgen.workload.defaults import UserClass
from loadgen.workload.prompts import Prompt

HELLO = "loadgen-hello"
CLOCK = "loadgen-clock"
ASSIGN = "loadgen-begin"
READY = "loadgen-ready"
START_WARM_UP = "loadgen-warm-up"
START_STEP = "loadgen-go"
FINISH = "loadgen-finish"
ABORT = "loadgen-abort"
FAILED = "loadgen-failed"
REPORT = "loadgen"
"""Not a separate message: the field of Locust's periodic report that holds ours."""


class WorkerHello(msgspec.Struct, frozen=True, kw_only=True):
    """A worker to the master, once it is connected."""

    version: str
    host: str
    pid: int
    parent: int | None
    """The process that forked it (``--processes``); None if it was started by hand."""
    has_key: bool
    """Whether it has an API key. The key itself is never sent."""


class ClockReading(msgspec.Struct, frozen=True, kw_only=True):
    """The master's question for the time, and the worker's answer; ns."""

    asked_ns: int
    """Monotonic clock of the master when it asked."""
    monotonic_ns: int = 0
    realtime_ns: int = 0
    """Of the worker."""


class RunAssignment(msgspec.Struct, frozen=True, kw_only=True):
    """The master to a worker: its share of a run. It holds the prompts, so that workers need no data set."""

    run_id: str
    number: int
    """``worker`` of its records."""
    shard: int
    shards: int
    scenario: dict[str, Any]
    engine: str
    model: str
    host: str
    sample: list[Prompt]
    users: int = 1
    """Users that the load begins with, in all processes."""
    warm_up: list[Prompt] = []
    """Prompts of the warm-up that users make, one for each of its requests; empty if the master sends it itself."""
    user_classes: dict[str, UserClass] = {}
    """What the classes of the locustfile ask for, by name; without what the command line overrides."""
    template: str | None = None
    """Text of the chat template, if the client applies it."""
    stop: tuple[str, ...]
    """Texts that end an answer, sent with each request."""
    planned: int | None
    """Measured requests of all workers together; None if only time limits the run."""
    stop_timeout_s: float
    with_key: bool = False
    """Whether requests carry the API key. Each worker uses its own, and decides itself whether it is for this host."""
    with_secrets: bool = True
    """Whether requests may carry secrets: the embedded engine gets none."""
    folder: str
    """The run's folder on the master; the worker writes there if it sees the same disk."""
    manifest: bytes
    """``run.json``, for a worker with another disk."""


class WorkerReady(msgspec.Struct, frozen=True, kw_only=True):
    """A worker to the master: whether it can take its share."""

    run_id: str
    refused: str | None = None
    """Why it cannot."""


class WorkerFailed(msgspec.Struct, frozen=True, kw_only=True):
    """A worker to the master: it cannot go on with its share. Not packed, as packing may be what has failed."""

    why: str
    bug: bool
    """Whether it is code of ours that failed."""


class StartStep(msgspec.Struct, frozen=True, kw_only=True):
    """The master to its workers: start the load, or its next step."""

    step: int | None
    eager_share: float
    """Share of the streams that are read token by token."""
    spread_s: float
    """Time over which the first requests of new users are spread."""
    epoch_ns: int | None = None
    """Time 0 of an open loop's schedule, on the worker's clock."""
    horizon_s: float | None = None
    """The schedule ends there at the latest."""


T = TypeVar("T")


def pack(message: msgspec.Struct) -> dict[str, Any]:
    """Encode a message for Locust, which carries dictionaries."""
    return {"packed": msgspec.msgpack.encode(message)}


def unpack(data: object, kind: type[T]) -> T:
    """Decode a message; raises msgspec.DecodeError where it is not of this kind."""
    packed = data.get("packed") if isinstance(data, dict) else None
    if not isinstance(packed, bytes):
        raise msgspec.DecodeError("nothing is packed in it")
    try:
        return msgspec.msgpack.decode(packed, type=kind)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(type(error).__name__) from error
