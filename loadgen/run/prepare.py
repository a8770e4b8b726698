"""From a scenario to a run that can begin: everything that may be wrong is looked at here, before the first request."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from loadgen.engines.catalogue import find_engine
from loadgen.engines.engine import Engine, Metrics
from loadgen.errors import OptionError
from loadgen.launch import simulated
from loadgen.launch.chat import Chat, applied, chat_for
from loadgen.launch.child import ChildServer
from loadgen.launch.embedded import ENGINE, LABEL, MODEL
from loadgen.launch.registry import launched_at
from loadgen.printable import counted
from loadgen.protocol.api import Api
from loadgen.protocol.chat import ChatApi
from loadgen.protocol.client import Settings
from loadgen.protocol.records import TokenCounter
from loadgen.protocol.tokenizer import open_tokenizer
from loadgen.results.launched import Launched
from loadgen.results.store import check_writable
from loadgen.run import preflight
from loadgen.run.key_hosts import KeyHosts
from loadgen.run.refusals import Accepted
from loadgen.run.request_settings import extra_body_of, headers_of
from loadgen.scenario import LIMIT_OPTIONS, Scenario
from loadgen.wire.capability import capability
from loadgen.wire.proxy import proxy_of
from loadgen.wire.response_reader import Timeouts
from loadgen.wire.target import Target, parse_target, present, without_route
from loadgen.wire.waiting import Waiter
from loadgen.workload import datasets
from loadgen.workload.plan import Plan, draw

logger = logging.getLogger(__name__)


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
    for name, count in plan.dataset.ignored.items():
        logger.warning(
            "--dataset: the field %s is ignored in %s; it is the same for all requests of a run",
            name,
            counted(count, "row"),
        )
    if plan.dataset.targets:
        logger.info("--dataset: trailing assistant messages are left out in %s", counted(plan.dataset.targets, "row"))
    if same := plan.same_text():
        logger.warning("--dataset: %d of the %d prompts have the text of another", len(same), len(plan.sample))
    launched = None if engine else launched_at(host)
    name = ENGINE if engine else _engine_of(scenario, launched)
    if engine and scenario.engine not in {"endpoint", ENGINE}:
        raise OptionError(f"--engine {scenario.engine} needs --host; without one the embedded engine is used.")
    engine_there = find_engine(name)
    scenario = _with_tokenizer(scenario, engine_there, launched)
    settings = settings_of(scenario, host, name, None if engine else key_hosts)
    wanted = scenario.model or (MODEL if engine else launched.serves if launched else None)
    readiness = preflight.Readiness(scenario.wait_ready, waiter)
    found = preflight.find(settings, wanted, waiter, readiness)
    is_simulated = found.server.get("server_header") == simulated.ENGINE
    called = launched.model if launched and found.model == launched.serves else found.model
    chat = chat_for(engine_there, launched, called, scenario)
    chat.check([*plan.sample, *plan.warmup])
    settings = with_template(settings, chat.template)
    may_rename = scenario.max_tokens_field == "auto"
    shortest = chat.shortest(found.model, scenario)
    accepted = preflight.try_one(settings, shortest, waiter, readiness, may_rename_limit=may_rename)
    for note in accepted.notes:
        logger.warning(note)
    if accepted.notes:
        scenario = _as_accepted(scenario, accepted.settings)
    return Prepared(
        scenario=scenario,
        settings=accepted.settings,
        engine_spec=name,
        engine=simulated.ENGINE if is_simulated else engine_there.name,
        model=found.model,
        called=called,
        server=found.server | _way_there(accepted),
        plan=plan,
        chat=chat,
        embedded=LABEL if engine else None,
        simulated=is_simulated,
        metrics=engine_there.metrics,
        launched=launched,
    )


def _way_there(accepted: Accepted) -> dict[str, Any]:
    """Return the proxy to the server, and what was changed for the server."""
    proxy = accepted.settings.target.proxy
    found: dict[str, Any] = {} if proxy is None else {"proxy": proxy.address}
    return found | ({"adapted": list(accepted.notes)} if accepted.notes else {})


def _as_accepted(scenario: Scenario, settings: Settings) -> Scenario:
    """Return a scenario that has what the server accepts: workers make their settings from it."""
    body, api = settings.extra_body, settings.api
    if isinstance(api, ChatApi):
        scenario = replace(scenario, max_tokens_field=api.limit_field)
    return replace(scenario, extra_body=msgspec.json.encode(body).decode() if body else None)


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


def settings_of(
    scenario: Scenario, host: str, engine_spec: str, key_hosts: KeyHosts | None, *, with_key: bool = True
) -> Settings:
    """Return how requests are made, without a secret if ``key_hosts`` is None, and without the key if it is not wanted.

    Raises OptionError where the tokenizer cannot be read, or where a secret is missing or not for this host.
    """
    engine = find_engine(engine_spec)
    target, route = without_route(_target_of(scenario, host), engine.api.path(stream=scenario.stream))
    if scenario.client_cert is not None and key_hosts is not None:
        key_hosts.check(target, "the certificate of --client-cert")
    has_key = with_key and scenario.auth != "none"
    key = key_hosts.key_for(target) if key_hosts is not None and has_key else None
    headers, secrets = headers_of(scenario, target, key, key_hosts)
    return Settings(
        target=target,
        api=_with_limit_field(engine.api, scenario),
        timeouts=Timeouts(
            scenario.connect_timeout, scenario.first_byte_timeout, scenario.idle_timeout, scenario.total_timeout
        ),
        keep_alive=scenario.keep_alive,
        drains_lazily=capability().low_water,
        has_key=key is not None,
        headers=headers,
        secrets=secrets,
        route=scenario.endpoint or route,
        system_prompt=scenario.system_prompt,
        extra_body=extra_body_of(scenario),
        count_tokens=_counter_of(scenario.tokenizer) if scenario.tokenizer else None,
        length_fields=engine.fixed_length_fields if scenario.ignore_eos else None,
        limit_options=LIMIT_OPTIONS,
    )


def _with_limit_field(api: Api, scenario: Scenario) -> Api:
    """Return an API that calls the limit of an answer as the user wants it called."""
    if scenario.max_tokens_field == "auto":
        return api
    if not isinstance(api, ChatApi):
        raise OptionError("--max-tokens-field is for chat completions, which this engine is not asked for here.")
    return replace(api, limit_field=scenario.max_tokens_field)


def _target_of(scenario: Scenario, host: str) -> Target:
    try:
        target = parse_target(host, verify=not scenario.insecure)
    except ValueError as error:
        shown = "" if "@" in host else f" {host.partition('?')[0]}"  # what follows may be secret
        raise OptionError(f"--host{shown}: {error}") from None
    if scenario.client_cert is not None:
        if target.tls is None:
            raise OptionError("--client-cert is for https://, which --host is not.")
        with OptionError.naming("--client-cert:" if scenario.client_key is None else "--client-cert, --client-key:"):
            present(target.tls, scenario.client_cert, scenario.client_key)
    with OptionError.naming("--proxy:"):
        proxy = proxy_of(scenario.proxy, "http" if target.tls is None else "https", target.host)
    return replace(target, proxy=proxy)


def _counter_of(tokenizer: str) -> TokenCounter:
    try:
        return open_tokenizer(tokenizer)
    except ValueError as error:
        raise OptionError(f"--tokenizer {error}") from None
