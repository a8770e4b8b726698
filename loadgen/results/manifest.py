"""``run.json``: what was run, where and with what. Written before the first request, completed after the last."""

from typing import Any, Literal

import msgspec

from loadgen.measure.energy import EnergySample
from loadgen.measure.envelope import Envelope
from loadgen.measure.facts import Arrivals, EngineCounters, EngineSample, Instrument, StepFacts, UserCode, WorkerFacts
from loadgen.results.launched import Launched

Kind = Literal["speed", "throughput", "rate"]


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """How a run ended; without it the run broke off."""

    reason: Literal["completed", "run-time", "interrupted"]
    why: str | None = None
    """What ended the load early, where that was neither time nor somebody's wish."""
    sigint: bool = False
    """Whether SIGINT, which Ctrl-C sends, ended the run; False also in older folders, where nobody noted it."""
    at: str
    """Wall time, ISO 8601."""
    started_requests: int
    """Requests started by all processes, warm-up included."""


MadeBy = Literal["engine", "client", "nobody"]
"""Who makes the text that a model continues of a chat, by the chat template; nobody, where the engine does not, and no
template is known of the model."""


class Manifest(msgspec.Struct, kw_only=True):
    """The manifest of a run."""

    schema: Literal[1] = 1
    run_id: str
    kind: Kind
    engine: str
    model: str
    host: str
    """The base URL, without any credentials."""
    simulated: bool
    embedded: str | None = None
    """What the embedded engine is, where it was used: said in every output."""
    launched: Launched | None = None
    """How the engine was started, where that was done on this machine by ``loadgen``."""
    scenario: dict[str, Any]
    locustfile: str | None = None
    """As ``-f`` named it; None in older folders, and for a program that uses Locust as a library."""
    user_classes: list[str] = []
    """Names of the selected user classes; empty if all classes of the locustfile were used."""
    users: int
    users_changed: bool = False
    shaped: bool = False
    """Whether it was a LoadTestShape that changed their number, too often for figures of each."""
    run_time_s: float | None = None
    planned_requests: int | None = None
    """Measured requests to be made; None if only time bounds the run."""
    dataset: dict[str, Any]
    prompts_made_by: MadeBy = "engine"
    stop: tuple[str, ...] = ()
    """Texts that end an answer, sent with each request."""
    server: dict[str, Any]
    """What the server says of itself."""
    versions: dict[str, str]
    environment: dict[str, Any]
    started_at: str
    """Wall time, ISO 8601."""
    anchor: dict[str, int]
    """``realtime_ns`` and ``monotonic_ns`` of one instant: turns the records' times into wall time."""
    calibration: Envelope | None = None
    """What this machine was measured to hold; None where it was not."""
    no_calibration: str | None = None
    """Why there is none."""
    ended: Ended | None = None
    itl_share: float | None = None
    """Share of the measured streams that is read token by token, fixed when the warm-up ended."""
    instruments: list[Instrument] = []
    """One for each process that made requests."""
    workers: list[WorkerFacts] = []
    """All processes of the run."""
    user_code: UserCode | None = None
    """The tasks of all users; None where nobody counted them."""
    steps: list[StepFacts] = []
    """Of a sweep; empty for other loads."""
    arrivals: Arrivals | None = None
    """Of an open loop."""
    counters: tuple[EngineCounters, EngineCounters] | None = None
    """The engine's own counters before the first request and after the last; None where it has none."""
    energy: list[EnergySample] = []
    """What the engine's GPUs reported during the run; empty where they are not known."""
    engine_load: list[EngineSample] = []
    """Samples of the load that the engine reported during the run; empty if it reports none."""


def to_json(manifest: Manifest) -> bytes:
    """Encode a manifest, indented."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def from_json(data: bytes) -> Manifest:
    """Decode a manifest; raises msgspec.DecodeError."""
    return msgspec.json.decode(data, type=Manifest)
