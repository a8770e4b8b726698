"""What a run begins with: its manifest, its load model, and the orders for each process."""

import re
import secrets
import time
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import msgspec

from loadgen.harness.conductor import LoadModel, wall_time
from loadgen.harness.load_kind import LoadKind
from loadgen.harness.loads import Closed, Open, Sweep
from loadgen.harness.messages import Orders
from loadgen.harness.options import SPREAD_S
from loadgen.harness.prepare import Prepared
from loadgen.harness.secrets import api_key
from loadgen.measure.facts import Arrivals
from loadgen.results.calibration import envelope_here
from loadgen.results.machine import this_machine
from loadgen.results.manifest import Kind, Manifest, to_json
from loadgen.scenario import Scenario


def load_model(kind: LoadKind, scenario: Scenario, users: int, spawn_rate: float | None) -> LoadModel:
    """Return what applies the load."""
    if kind is LoadKind.SWEEP:
        return Sweep(scenario)
    if kind is LoadKind.OPEN:
        return Open()
    return Closed(users, SPREAD_S if spawn_rate is None else users / spawn_rate)


def first_step(scenario: Scenario) -> int:
    """Return how many users a sweep begins with."""
    return Sweep(scenario).first


def manifest(prepared: Prepared, kind: LoadKind, *, users: int, run_time: float | None) -> Manifest:
    """Return the manifest of a run that is about to begin."""
    scenario = prepared.scenario
    machine = this_machine()
    calibration, no_calibration = envelope_here()
    is_called = _kind(kind, users)
    return Manifest(
        run_id=_run_id(is_called, prepared.called),
        kind=is_called,
        engine=prepared.engine,
        model=prepared.called,
        host=prepared.settings.target.url,
        simulated=prepared.simulated,
        embedded=prepared.embedded,
        launched=prepared.launched,
        scenario=asdict(scenario),
        users=users,
        run_time_s=run_time,
        planned_requests=_planned(scenario, kind, run_time),
        dataset=prepared.plan.describe(),
        prompts_made_by=prepared.chat.made_by,
        stop=prepared.chat.stop,
        server=prepared.server,
        versions={"loadgen": machine.loadgen, "python": machine.python}
        | {name: version(name) for name in ("locust", "gevent", "httptools", "msgspec", "openai")},
        environment={"platform": machine.platform, "cpus": machine.cpus, "cpu": machine.cpu},
        started_at=wall_time(),
        anchor={"realtime_ns": time.time_ns(), "monotonic_ns": time.monotonic_ns()},
        calibration=calibration,
        no_calibration=no_calibration,
        arrivals=_arrivals(scenario) if kind is LoadKind.OPEN else None,
    )


def orders(prepared: Prepared, of: Manifest, folder: Path, stop_timeout_s: float) -> Orders:
    """Return what a process has to know for its part; the whole of it, until a shard is named."""
    return Orders(
        run_id=of.run_id,
        number=0,
        shard=0,
        shards=1,
        scenario=of.scenario,
        engine=prepared.engine_spec,
        model=prepared.model,
        host=prepared.settings.target.url,
        sample=list(prepared.plan.sample),
        template=prepared.chat.template,
        stop=prepared.chat.stop,
        planned=of.planned_requests,
        stop_timeout_s=stop_timeout_s,
        with_key=prepared.settings.api_key is not None,
        folder=str(folder),
        manifest=to_json(of),
    )


def warm_up_only(whole: Orders) -> Orders:
    """Return the orders of a master: its workers make the requests that count."""
    return msgspec.structs.replace(whole, planned=0)


def has_key() -> bool:
    """Whether there is an API key."""
    return api_key() is not None


def _kind(kind: LoadKind, users: int) -> Kind:
    if kind is LoadKind.OPEN:
        return "rate"
    return "speed" if kind is LoadKind.CLOSED and users == 1 else "throughput"


def _planned(scenario: Scenario, kind: LoadKind, run_time: float | None) -> int | None:
    """Return how many requests are to be measured: --requests, else the sample once, else as many as time allows."""
    if kind is LoadKind.SWEEP:
        return None
    if scenario.requests is not None:
        return scenario.requests
    return scenario.sample if run_time is None else None


def _arrivals(scenario: Scenario) -> Arrivals:
    assert scenario.rate is not None
    return Arrivals(
        process=scenario.arrivals,  # type: ignore[arg-type]  # checked when the scenario was resolved
        rate=scenario.rate,
        cv=scenario.cv,
        max_in_flight=scenario.max_in_flight,
    )


def _run_id(kind: str, model: str) -> str:
    slug = re.sub(r"[^a-z0-9.]+", "-", model.lower()).strip("-.")[-40:] or "model"
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{kind}-{slug}-{secrets.token_hex(2)}"
