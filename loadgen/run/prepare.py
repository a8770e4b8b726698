"""From a scenario to a run that can begin: everything that may be wrong is looked at here, before the first request."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from loadgen.engines.catalogue import find_engine
from loadgen.engines.engine import Engine, Metrics
from loadgen.errors import OptionError
from loadgen.launch import simulated
from loadgen.launch.chat import Chat, applied, chat_for
from loadgen.launch.child import ChildServer
from loadgen.launch.embedded import ENGINE, LABEL, MODEL
from loadgen.launch.registry import launched_at
from loadgen.protocol.client import Settings
from loadgen.protocol.records import TokenCounter
from loadgen.protocol.tokenizer import open_tokenizer
from loadgen.results.launched import Launched
from loadgen.results.store import check_writable
from loadgen.run import preflight
from loadgen.run.key_hosts import KeyHosts
from loadgen.scenario import LIMIT_OPTIONS, Scenario
from loadgen.wire.response_reader import Timeouts
from loadgen.wire.target import Target, parse_target
from loadgen.wire.waiting import Waiter
from loadgen.workload import datasets
from loadgen.workload.plan import Plan, draw


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A run that can begin."""

    scenario: Scenario
    settings: Settings
    engine_spec: str
    """Name or file of the engine whose API the server is asked by."""
    engine: str
    """Its name, as reports have it."""
    model: str
    """As requests ask for it."""
    called: str
    """The model, as reports have it."""
    server: dict[str, Any]
    """What the server says of itself."""
    plan: Plan
    chat: Chat
    """How its prompts are sent."""
    embedded: str | None
    """What the embedded engine is, where it is used."""
    simulated: bool
    """Whether it is the truth server that answers."""
    metrics: Metrics | None
    """Where it tells its own counters, and what it calls them."""
    launched: Launched | None
    """How it was started, where that was done here."""


def prepare(scenario: Scenario, host: str, engine: ChildServer | None, key_hosts: KeyHosts, waiter: Waiter) -> Prepared:
    """Check scenario, data set, results folder and server, in this order; raises UsageError.

    ``engine`` is the embedded one, if ``host`` is its address; it needs no key and gets none.
    """
    check_writable(Path(scenario.results))
    plan = draw(datasets.load(scenario.dataset), sample=scenario.sample, warmup=scenario.warmup, seed=scenario.seed)
    launched = None if engine else launched_at(host)
    name = ENGINE if engine else _engine_of(scenario, launched)
    if engine and scenario.engine not in {"endpoint", ENGINE}:
        raise OptionError(f"--engine {scenario.engine} needs --host; without one the embedded engine is used.")
    engine_there = find_engine(name)
    scenario = _with_tokenizer(scenario, engine_there, launched)
    settings = settings_of(scenario, host, name, None if engine else key_hosts)
    wanted = scenario.model or (MODEL if engine else launched.serves if launched else None)
    found = preflight.find(settings, wanted, waiter)
    is_simulated = found.server.get("server_header") == simulated.ENGINE
    called = launched.model if launched and found.model == launched.serves else found.model
    chat = chat_for(engine_there, launched, called, scenario)
    chat.check([*plan.sample, *plan.warmup])
    settings = with_template(settings, chat.template)
    preflight.try_one(settings, chat.shortest(found.model, scenario), waiter)
    return Prepared(
        scenario=scenario,
        settings=settings,
        engine_spec=name,
        engine=simulated.ENGINE if is_simulated else engine_there.name,
        model=found.model,
        called=called,
        server=found.server,
        plan=plan,
        chat=chat,
        embedded=LABEL if engine else None,
        simulated=is_simulated,
        metrics=engine_there.metrics,
        launched=launched,
    )


def _engine_of(scenario: Scenario, launched: Launched | None) -> str:
    """Return the engine whose API is used: the one that was named, else the one that was started there."""
    return launched.engine if launched and scenario.engine == "endpoint" else scenario.engine


def _with_tokenizer(scenario: Scenario, engine: Engine, launched: Launched | None) -> Scenario:
    """Have answers counted by the model's tokenizer, if it is here and the engine counts none that it streams."""
    if scenario.tokenizer or launched is None or engine.reports_stream_usage:
        return scenario
    file = tokenizer_of(launched)
    try:
        open_tokenizer(str(file))
    except ValueError:  # there is none, or none that we can read: nobody asked for it
        return scenario
    return replace(scenario, tokenizer=str(file))


def tokenizer_of(launched: Launched) -> Path:
    """Return where the tokenizer of an engine's model lies, if there is one."""
    return Path(launched.source) / "tokenizer.json"


def with_template(settings: Settings, template: str | None) -> Settings:
    """Return settings that apply a chat template here, if there is one."""
    return settings if template is None else replace(settings, template=applied(template))


def settings_of(scenario: Scenario, host: str, engine_spec: str, key_hosts: KeyHosts | None) -> Settings:
    """Return how requests are made, without a key if ``key_hosts`` is None.

    Raises OptionError where the tokenizer cannot be read, or where the key is not for this host.
    """
    target, engine = _target_of(host, verify=not scenario.insecure), find_engine(engine_spec)
    return Settings(
        target=target,
        api=engine.api,
        timeouts=Timeouts(
            scenario.connect_timeout, scenario.first_byte_timeout, scenario.idle_timeout, scenario.total_timeout
        ),
        keep_alive=scenario.keep_alive,
        api_key=None if key_hosts is None else key_hosts.key_for(target),
        count_tokens=_counter_of(scenario.tokenizer) if scenario.tokenizer else None,
        length_fields=engine.fixed_length_fields if scenario.ignore_eos else None,
        limit_options=LIMIT_OPTIONS,
    )


def _target_of(host: str, *, verify: bool) -> Target:
    try:
        return parse_target(host, verify=verify)
    except ValueError as error:
        shown = "" if "@" in host else f" {host}"
        raise OptionError(f"--host{shown}: {error}") from None


def _counter_of(tokenizer: str) -> TokenCounter:
    try:
        return open_tokenizer(tokenizer)
    except ValueError as error:
        raise OptionError(f"--tokenizer {error}") from None
