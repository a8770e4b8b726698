"""``run.json``: what was run, where and with what. Written before the first request, completed after the last."""

from typing import Any, Literal

import msgspec


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """How a run ended; without it the run broke off."""

    reason: Literal["completed", "run-time", "interrupted"]
    at: str
    """Wall time, ISO 8601."""
    started_requests: int
    """Requests started by all processes, warm-up included."""


class Instrument(msgspec.Struct, frozen=True, kw_only=True):
    """How well the instrument itself was during the run."""

    loop_lag_p50_ms: float | None = None
    loop_lag_p99_ms: float | None = None
    loop_lag_max_ms: float | None = None
    cpu_seconds: float | None = None


class Manifest(msgspec.Struct, kw_only=True):
    """The manifest of a run."""

    schema: Literal[1] = 1
    run_id: str
    kind: Literal["speed", "throughput"]
    engine: str
    model: str
    host: str
    """The base URL, without any credentials."""
    simulated: bool
    embedded: str | None = None
    """What the embedded engine is, where it was used: said in every output."""
    scenario: dict[str, Any]
    users: int
    users_changed: bool = False
    run_time_s: float | None = None
    planned_requests: int | None = None
    """Measured requests to be made; None if only time bounds the run."""
    dataset: dict[str, Any]
    server: dict[str, Any]
    """What the server says of itself."""
    versions: dict[str, str]
    environment: dict[str, Any]
    started_at: str
    """Wall time, ISO 8601."""
    anchor: dict[str, int]
    """``realtime_ns`` and ``monotonic_ns`` of one instant: turns the records' times into wall time."""
    ended: Ended | None = None
    instrument: Instrument | None = None


def to_json(manifest: Manifest) -> bytes:
    """Encode a manifest, indented."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def from_json(data: bytes) -> Manifest:
    """Decode a manifest; raises msgspec.DecodeError."""
    return msgspec.json.decode(data, type=Manifest)
