"""The project's options on Locust's command line, made from the scenario's fields."""

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from locust.argument_parser import LocustArgumentParser

from loadgen.engines.catalogue import find_engine
from loadgen.errors import UsageError
from loadgen.harness import ports
from loadgen.harness.key_hosts import allowed_by_variable
from loadgen.harness.load_kind import LoadKind
from loadgen.protocol.chat import ChatApi
from loadgen.scenario import Scenario, flag, resolve

LOOPBACK = "127.0.0.1"

STOP_TIMEOUT_S = 60
WORKERS_S = 120
"""A master waits so long for its workers, unless --expect-workers-max-wait says otherwise; Locust's own is for ever."""

SPREAD_S = 2.0
"""First measured requests of users are spread over this time, unless --spawn-rate says otherwise."""


def add_options(parser: LocustArgumentParser) -> None:
    """Add an option, and its ``LOADGEN_*`` variable, for each field of the scenario."""
    for f in fields(Scenario):
        kind = f.metadata["kind"]
        default = None if f.default is MISSING else f.default
        text = f.metadata["help"] + ("" if default in (None, False) else f" (default: {default})")
        common: dict[str, Any] = {
            "dest": f.name,
            "default": default,
            "env_var": "LOADGEN_" + f.name.upper(),
            "help": text.replace("%", "%%"),
            "include_in_web_ui": f.metadata["web_ui"],
        }
        if kind is bool:
            parser.add_argument(flag(f.name), action="store_true", **common)
        else:
            parser.add_argument(flag(f.name), type=kind, metavar=f"<{kind.__name__}>", **common)
    parser.set_defaults(
        stop_timeout=STOP_TIMEOUT_S,
        expect_workers_max_wait=WORKERS_S,
        web_host=LOOPBACK,  # whoever reaches the web UI can start runs, with our key
        master_bind_host=None,  # see set_bind_host
    )


def set_bind_host(options: Namespace) -> None:
    """Set where a master listens, unless that was chosen: with --processes all its workers are on this machine."""
    if options.master_bind_host is None:
        options.master_bind_host = LOOPBACK if options.processes else "*"


def scenario_of(options: Namespace, kind: LoadKind, form: Mapping[str, str] | None = None) -> Scenario:
    """Return the scenario of Locust's parsed options, with a web form's values over them; raises UsageError."""
    scenario = resolve(vars(options) | _filled(form or {}, options))
    _check_locusts_own(options, form or {})
    _check_kind(scenario, kind)
    try:
        api = find_engine(scenario.engine).api
    except UsageError as error:
        raise UsageError(f"--engine: {error}") from None
    if scenario.client == "openai" and not isinstance(api, ChatApi):
        raise UsageError(f"--client openai: {scenario.engine} has no chat completions; use --client own.")
    return scenario


def check_command(options: Namespace, kind: LoadKind) -> None:
    """Look at a command line before Locust acts on it, or forks; raises UsageError."""
    allowed_by_variable()
    if options.worker:
        return  # its master has looked at everything
    scenario_of(options, kind)
    if kind is not LoadKind.CLOSED and options.num_users is not None:
        way = "--steps says how many there are" if kind is LoadKind.SWEEP else "--rate says how many requests there are"
        raise UsageError(f"--users: this locustfile has none of its own choosing; {way}.")
    processes = options.processes or 1
    users = 1 if options.num_users is None else int(options.num_users)
    if options.headless and kind is LoadKind.CLOSED and processes > 1 and users < processes:
        raise UsageError(f"--processes {processes} with --users {users}: each process needs a user at least.")
    if options.processes and options.master_port != options.master_bind_port:
        raise UsageError(
            f"--master-bind-port {options.master_bind_port}: with --processes give --master-port "
            f"{options.master_bind_port} too, or the workers look for their master at {options.master_port}."
        )
    _hold_ports(options)


def _hold_ports(options: Namespace) -> None:
    """Listen at the ports of master and web UI; raises UsageError where one is taken."""
    if options.list_commands or options.show_task_ratio or options.show_task_ratio_json:
        return
    if options.master or options.processes:
        ports.hold(ports.MASTER, options.master_bind_host, options.master_bind_port)
    if options.headful or not options.headless:
        ports.hold(ports.WEB, options.web_host, options.web_port)


def _check_kind(scenario: Scenario, kind: LoadKind) -> None:
    """Refuse options that mean nothing for this kind of load: whoever gives them expects something else."""
    if kind is LoadKind.OPEN:
        if scenario.rate is None:
            raise UsageError("--rate is needed: how many requests per second are to be sent?")
    elif scenario.rate is not None:
        raise UsageError("--rate is for an open loop: use locustfiles/rate.py.")
    if kind is LoadKind.SWEEP:
        if scenario.requests is not None:
            raise UsageError("--requests is not for a sweep: --step-time and --precision say how long its steps are.")
    elif scenario.steps != "auto":
        raise UsageError("--steps has an effect only with locustfiles/sweep.py.")


def _check_locusts_own(options: Namespace, form: Mapping[str, str]) -> None:
    """Refuse what Locust would take and not survive."""
    users = form.get("user_count", options.num_users)
    if (users is not None and not str(users).strip().isdigit()) or str(users).strip() == "0":
        raise UsageError(f"--users must be at least 1, got {users}.")
    if options.run_time == 0:
        raise UsageError("--run-time must be above 0; leave it out to make each request of the sample once.")
    if options.host is not None and not options.host.strip() and not form:
        raise UsageError("--host is empty; name a server, or leave it out to use the embedded engine.")


def _filled(form: Mapping[str, str], options: Namespace) -> dict[str, str]:
    """Return the form; raises UsageError for a number that was cleared, which Locust cannot take."""
    for f in fields(Scenario):
        if f.metadata["kind"] in {int, float} and form.get(f.name) == "" and getattr(options, f.name) not in {None, ""}:
            raise UsageError(f"{flag(f.name)}: a number is needed; it was {getattr(options, f.name)}.")
    return dict(form)
