"""What master and workers tell each other, beside what Locust does; msgpack in one field of Locust's messages."""

from typing import Any, TypeVar

import msgspec

from loadgen.measure.histogram import Wire
from loadgen.record import RequestRecord
from loadgen.results.manifest import Instrument
from loadgen.workload.prompts import Prompt

HELLO = "loadgen-hello"
CLOCK = "loadgen-clock"
BEGIN = "loadgen-begin"
READY = "loadgen-ready"
GO = "loadgen-go"
FINISH = "loadgen-finish"
ABORT = "loadgen-abort"
FAILED = "loadgen-failed"
REPORT = "loadgen"
"""Not a message of its own: the field of Locust's periodic report."""


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    """A worker to the master, once connected."""

    version: str
    host: str
    pid: int
    parent: int | None
    """Process that forked it (``--processes``); None if it was started by hand."""
    has_key: bool
    """Whether it knows an API key. The key itself never travels."""


class Clock(msgspec.Struct, frozen=True, kw_only=True):
    """The master's question what time it is, and the worker's answer; ns."""

    asked_ns: int
    """Monotonic clock of the master when it asked."""
    monotonic_ns: int = 0
    realtime_ns: int = 0
    """Of the worker."""


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """The master to a worker: its part in a run. Prompts travel in it, so that workers need no data set."""

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
    template: str | None = None
    """Text of the chat template, where the engine does not apply it."""
    stop: tuple[str, ...]
    """Texts that end an answer, sent with each request."""
    planned: int | None
    """Measured requests of all workers together; None if only time bounds the run."""
    stop_timeout_s: float
    with_key: bool = False
    """Whether the server wants the API key. Each worker has its own, and decides itself whether it is for this host."""
    folder: str
    """The run's folder at the master; the worker writes there if it sees the same disk."""
    manifest: bytes
    """For the folder of a worker that does not."""


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """A worker to the master: whether it can do its part."""

    run_id: str
    refused: str | None = None
    """Why not."""


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """A worker to the master: it cannot go on with its part. Not packed, as packing may be what has failed."""

    why: str
    bug: bool
    """Whether it is code of ours that failed."""


class Go(msgspec.Struct, frozen=True, kw_only=True):
    """The master to its workers: requests may be made, as part of this step."""

    step: int | None
    eager_share: float
    """Share of the streams that is read token by token."""
    spread_s: float
    """Over which the first requests of new users are spread."""
    epoch_ns: int | None = None
    """Time 0 of an open loop's schedule, on the worker's clock."""
    horizon_s: float | None = None
    """The schedule ends there, if not with the planned requests."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A worker to the master, every second: what has ended since the last report."""

    run_id: str
    worker: int
    sequence: int
    """1, 2, ...; a report that comes twice is dropped."""
    records: list[RequestRecord]
    """Without the times of their chunks."""
    histograms: dict[str, Wire]
    """TTFT, TPOT, ITL and E2E of these records, ms."""
    started: int
    """Requests since the start of the run."""
    in_flight: int
    settled_ns: int
    """On the worker's clock: every request handed out before it has ended, and is in this report or an earlier one."""
    cpu_share: float | None
    loop_lag: Wire | None = None
    """Lateness of its loop since the last report, ms."""
    users: int | None = None
    """That its part of Locust has now; None where that says nothing of the load."""
    done: bool = False
    """It has made all that was planned."""
    instrument: Instrument | None = None
    """Only in the last report."""


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
