"""What a run begins with: its manifest, and the assignment for each process."""

import hashlib
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from loadgen.results.calibration import envelope_here
from loadgen.results.machine import this_machine
from loadgen.results.manifest import Manifest, to_json
from loadgen.run.load.model import LoadModel
from loadgen.run.messages import RunAssignment
from loadgen.run.prepare import Prepared
from loadgen.run.result import wall_time
from loadgen.scenario import Scenario
from loadgen.wire.capability import capability
from loadgen.workload.defaults import UserClass


def new_manifest(
    prepared: Prepared,
    load: LoadModel,
    run_time_s: float | None,
    locustfile: str | None,
    user_classes: Sequence[str],
) -> Manifest:
    """Return the manifest of a run that is about to begin.

    ``locustfile``: the value of ``-f``, None without one; ``user_classes``: the selected classes, empty for all.
    """
    machine = this_machine()
    calibration, no_calibration = envelope_here()
    return Manifest(
        run_id=_run_id(load.kind, prepared.called),
        kind=load.kind,
        engine=prepared.engine,
        model=prepared.called,
        host=prepared.settings.target.url,
        simulated=prepared.simulated,
        embedded=prepared.embedded,
        launched=prepared.launched,
        scenario=_kept(prepared.scenario),
        locustfile=locustfile,
        user_classes=list(user_classes),
        users=load.users,
        run_time_s=run_time_s,
        planned_requests=load.planned_requests(run_time_s),
        dataset=prepared.plan.describe(),
        prompts_made_by=prepared.chat.made_by,
        stop=prepared.chat.stop,
        server=prepared.server,
        versions={"loadgen": machine.loadgen, "python": machine.python}
        | {name: version(name) for name in ("locust", "gevent", "httptools", "msgspec", "openai")},
        environment={"platform": machine.platform, "cpus": machine.cpus, "cpu": machine.cpu, "lacks": _lacks()},
        started_at=wall_time(),
        anchor={"realtime_ns": time.time_ns(), "monotonic_ns": time.monotonic_ns()},
        calibration=calibration,
        no_calibration=no_calibration,
        arrivals=load.arrivals(),
    )


def whole_run(
    prepared: Prepared,
    load: LoadModel,
    manifest: Manifest,
    folder: Path,
    *,
    stop_timeout_s: float,
    user_classes: dict[str, UserClass],
) -> RunAssignment:
    """Return the assignment of all requests to one process; workers get shards of it."""
    return RunAssignment(
        run_id=manifest.run_id,
        number=0,
        shard=0,
        shards=1,
        scenario=asdict(prepared.scenario),
        engine=prepared.engine_spec,
        model=prepared.model,
        host=prepared.settings.target.url,
        sample=list(prepared.plan.sample),
        users=load.users,
        warm_up=list(prepared.plan.warmup) if load.users_warm_up else [],
        user_classes=user_classes,
        template=prepared.chat.template,
        stop=prepared.chat.stop,
        planned=manifest.planned_requests,
        stop_timeout_s=stop_timeout_s,
        with_key=prepared.settings.has_key,
        with_secrets=prepared.embedded is None,
        folder=str(folder),
        manifest=to_json(manifest),
    )


def without_users(whole: RunAssignment) -> RunAssignment:
    """Return the assignment of a master, whose workers have all users: at most it sends the warm-up itself."""
    return msgspec.structs.replace(whole, planned=0, warm_up=[])


def _kept(scenario: Scenario) -> dict[str, Any]:
    """Return the scenario as results have it: no prompt is kept, so of a system prompt only what tells two apart."""
    kept = asdict(scenario)
    if scenario.system_prompt is not None:
        digest = hashlib.sha256(scenario.system_prompt.encode()).hexdigest()
        kept["system_prompt"] = f"{len(scenario.system_prompt):,} characters, sha256 {digest}"
    return kept


def _lacks() -> list[str]:
    """Return what this system does not do, as reports say it."""
    can = capability()
    stamps = [] if can.stamps else ["receive times of the kernel: those of user space are used"]
    return stamps + ([] if can.low_water else ["reads that are held back: all streams are read token by token"])


def _run_id(kind: str, model: str) -> str:
    slug = re.sub(r"[^a-z0-9.]+", "-", model.lower()).strip("-.")[-40:] or "model"
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{kind}-{slug}-{secrets.token_hex(2)}"
