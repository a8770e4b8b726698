"""From a scenario to a run that can begin: everything that may be wrong is looked at here, before the first request."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines import DIALECTS
from loadgen.errors import UsageError
from loadgen.harness import preflight
from loadgen.harness.secrets import api_key
from loadgen.launch import simulated
from loadgen.launch.child import ChildServer
from loadgen.launch.embedded import ENGINE, LABEL, MODEL
from loadgen.results.store import check_writable
from loadgen.scenario import Scenario
from loadgen.wire.client import Settings
from loadgen.wire.reception import Timeouts
from loadgen.wire.target import parse_target
from loadgen.wire.tokenizer import open_tokenizer
from loadgen.wire.waiting import Waiter
from loadgen.workload import datasets
from loadgen.workload.plan import Plan, draw


@dataclass(frozen=True, slots=True)
class Prepared:
    """A run that can begin."""

    scenario: Scenario
    settings: Settings
    dialect: str
    """By whose rules the server is spoken to."""
    engine: str
    model: str
    server: dict[str, Any]
    """What the server says of itself."""
    plan: Plan
    embedded: str | None
    """What the embedded engine is, where it is used."""
    simulated: bool
    """Whether it is the truth server that answers."""


def prepare(scenario: Scenario, host: str, engine: ChildServer | None, waiter: Waiter) -> Prepared:
    """Check scenario, data set, results folder and server, in this order; raises UsageError.

    ``engine`` is the embedded one, if ``host`` is its address.
    """
    check_writable(Path(scenario.results))
    plan = draw(datasets.load(scenario.dataset), sample=scenario.sample, warmup=scenario.warmup, seed=scenario.seed)
    name = ENGINE if engine else scenario.engine
    if engine and scenario.engine not in {"endpoint", ENGINE}:
        raise UsageError(f"--engine {scenario.engine} needs --host; without one the embedded engine is used.")
    settings = settings_of(scenario, host, name)
    wanted = scenario.model or (MODEL if engine else None)
    found = preflight.check(settings, wanted, waiter, stream=scenario.stream, temperature=scenario.temperature)
    is_simulated = found.server.get("server_header") == simulated.ENGINE
    called = simulated.ENGINE if is_simulated else name
    return Prepared(
        scenario, settings, name, called, found.model, found.server, plan, LABEL if engine else None, is_simulated
    )


def settings_of(scenario: Scenario, host: str, engine: str) -> Settings:
    """Return how requests are made; raises UsageError where that needs what is not there, a tokenizer or a key."""
    return Settings(
        target=parse_target(host, verify=not scenario.insecure),
        dialect=DIALECTS[engine],
        timeouts=Timeouts(
            scenario.connect_timeout, scenario.first_byte_timeout, scenario.idle_timeout, scenario.total_timeout
        ),
        keep_alive=scenario.keep_alive,
        api_key=api_key(),
        count_tokens=open_tokenizer(scenario.tokenizer) if scenario.tokenizer else None,
    )
