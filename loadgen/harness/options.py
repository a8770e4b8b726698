"""The project's options on Locust's command line, made from the scenario's fields."""

import argparse
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

from locust.argument_parser import LocustArgumentParser

from loadgen.engines.catalogue import find_engine
from loadgen.errors import OptionError, UsageError
from loadgen.harness import ports
from loadgen.harness.locust_users import evenly
from loadgen.launch.open_files import allow_open_files
from loadgen.protocol.chat import ChatApi
from loadgen.run.key_hosts import allowed_by_variable
from loadgen.run.load.catalogue import LOAD_MODELS
from loadgen.run.load.model import LoadModel, check_options
from loadgen.scenario import Scenario, flag, resolve
from loadgen.steps import parse_steps

LOOPBACK = "127.0.0.1"

LEAVE_RUNNING = -1
"""The value of ``--autoquit`` if it is not given."""

SPARE_FILES = 128
"""Files open in addition to connections: results, logs, pipes, timers, modules while they are imported."""

STOP_TIMEOUT_S = 60
WORKERS_S = 120
"""A master waits so long for its workers, unless --expect-workers-max-wait says otherwise; Locust's own is for ever."""

_ABOUT = f"""\
All options below can also be set by environment variables: --max-tokens by
LOADGEN_MAX_TOKENS. Some of Locust's options have other defaults than it says:
--stop-timeout {STOP_TIMEOUT_S}, --expect-workers-max-wait {WORKERS_S}, --web-host {LOOPBACK}, which
with --processes is that of --master-bind-host, too. --exit-code-on-error
changes the exit status only if it is given."""


def add_options(parser: LocustArgumentParser) -> None:
    """Add an option, and its ``LOADGEN_*`` variable, for each field of the scenario."""
    if parser.prog == "__main__.py":  # python -m locust: errors name the program
        parser.prog = "locust"
    parser.add_argument_group("Options of loadgen", _ABOUT)
    groups: dict[str, argparse._ArgumentGroup] = {}
    for f in fields(Scenario):
        title = f.metadata["group"]
        if title not in groups:
            groups[title] = parser.add_argument_group(title)
        _add_option(groups[title], f)
    parser.set_defaults(
        stop_timeout=STOP_TIMEOUT_S,
        expect_workers_max_wait=WORKERS_S,
        web_host=LOOPBACK,  # whoever reaches the web UI can start runs, with our key
        master_bind_host=None,  # see set_bind_host
        exit_code_on_error=None,  # not given: the exit status is the verdict's
    )


def _add_option(group: "argparse._ArgumentGroup", f: "Field[Any]") -> None:
    value_type = f.metadata["kind"]
    value: dict[str, Any] = {"action": "store_true"}
    if value_type is list:
        value = {"action": "append", "metavar": f.metadata["metavar"]}
    elif value_type is not bool:
        value = {"type": value_type, "metavar": f.metadata["metavar"]}
    action = group.add_argument(
        flag(f.name),
        dest=f.name,
        default=None if value_type is list else f.default,  # argparse would append to a default list
        help=(f.metadata["help"] + _default(f.default)).replace("%", "%%"),
        env_var="LOADGEN_" + f.name.upper(),
        **value,
    )
    action.include_in_web_ui = f.metadata["web_ui"]  # type: ignore[attr-defined]  # groups have no parameter for it


def _default(value: object) -> str:
    if value is None or value is False or value == ():
        return ""
    return f" (default: {value:g})" if isinstance(value, float) else f" (default: {value})"


def set_bind_host(options: Namespace) -> None:
    """Set where a master listens, unless that was chosen: with --processes all its workers are on this machine."""
    if options.master_bind_host is None:
        options.master_bind_host = LOOPBACK if options.processes else "*"


def scenario_of(options: Namespace, load_model: type[LoadModel], form: Mapping[str, str] | None = None) -> Scenario:
    """Return the scenario of Locust's parsed options, with a web form's values over them; raises OptionError."""
    scenario = resolve(_with_files(vars(options)) | _filled(form or {}, options))
    _check_locusts_own(options, form or {})
    check_options(load_model, scenario, LOAD_MODELS)
    try:
        api = find_engine(scenario.engine).api
    except UsageError as error:
        raise OptionError(f"--engine: {error}") from None
    if scenario.client == "openai" and not isinstance(api, ChatApi):
        raise OptionError(f"--client openai: {scenario.engine} has no chat completions; use --client own.")
    return scenario


def _with_files(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options with the text of a file in place of ``@FILE``; raises OptionError where it cannot be read.

    Only of a command line of one's own: a form, or another host, must not name files here.
    """
    found = dict(options)
    for name in ("extra_body", "system_prompt"):
        value = found.get(name)
        if isinstance(value, str) and value.startswith("@"):
            try:
                found[name] = Path(value[1:]).read_text(encoding="utf-8")
            except OSError as error:
                raise OptionError(f"{flag(name)}: cannot read {value[1:]} ({error.strerror}).") from None
            except ValueError:
                raise OptionError(f"{flag(name)}: {value[1:]} is not a text file in UTF-8.") from None
    return found


def changed_in(form: Mapping[str, str], options: Namespace) -> list[str]:
    """Return the options that a web form has another value for than the command line; it shows those of all."""
    shown = {f.name: getattr(options, f.name) for f in fields(Scenario)}
    return [n for n, value in shown.items() if n in form and form[n] != ("" if value is None else str(value))]


def only_changed(form: Mapping[str, str], changed: Sequence[str]) -> dict[str, str]:
    """Return a form without the options that have the values of the command line."""
    names = {f.name for f in fields(Scenario)}
    return {name: value for name, value in form.items() if name not in names or name in changed}


def check_command(options: Namespace, load_model: type[LoadModel]) -> None:
    """Look at a command line before Locust acts on it, or forks; raises OptionError."""
    allowed_by_variable()
    if options.worker:
        return  # its master has looked at everything
    scenario = scenario_of(options, load_model)
    way = load_model.user_option
    if way is not None and options.num_users is not None:
        raise OptionError(f"--users has no effect with {load_model.locustfile}; set the load with {way}.")
    if options.headless:
        load_model.check_processes(evenly(options.num_users or 1, options.processes or 1))
    if not options.master:
        _check_open_files(scenario, options.num_users or 1, options.processes or 1)
    if options.processes and options.master_port != options.master_bind_port:
        raise OptionError(
            f"--master-bind-port {options.master_bind_port}: with --processes give --master-port "
            f"{options.master_bind_port} too, or the workers look for their master at {options.master_port}."
        )
    _hold_ports(options)


def _check_open_files(scenario: Scenario, users: int, processes: int) -> None:
    """Raise the limit of open files to what a process needs; raises OptionError if the system allows less."""
    flag_of_most, most = _most_connections(scenario, users)
    needed = -(-most // processes) + SPARE_FILES
    if (allowed := allow_open_files(needed)) < needed:
        raise OptionError(
            f"{flag_of_most} {most:,}: that takes {needed:,} open files in a process, and `ulimit -Hn` allows "
            f"{allowed:,}. Raise that limit, or spread the users over more --processes."
        )


def _most_connections(scenario: Scenario, users: int) -> tuple[str, int]:
    """Return the option that sets the most connections at once, of all processes, and their number."""
    if scenario.rate is not None:
        return "--max-in-flight", scenario.max_in_flight
    listed = parse_steps(scenario.steps)
    return ("--steps", max(listed)) if listed is not None and max(listed) > users else ("--users", users)


def _hold_ports(options: Namespace) -> None:
    """Listen at the ports of master and web UI; raises OptionError where one is taken."""
    if options.list_commands or options.show_task_ratio or options.show_task_ratio_json:
        return
    if options.master or options.processes:
        ports.hold(ports.MASTER, options.master_bind_host, options.master_bind_port)
    if options.headful or not options.headless:
        ports.hold(ports.WEB, options.web_host, options.web_port)


def _check_locusts_own(options: Namespace, form: Mapping[str, str]) -> None:
    """Refuse what Locust would take and not survive."""
    users = form.get("user_count", options.num_users)
    if (users is not None and not str(users).strip().isdigit()) or str(users).strip() == "0":
        raise OptionError(f"--users must be at least 1, got {users}.")
    if options.run_time == 0:
        raise OptionError("--run-time must be above 0; leave it out to make each request of the sample once.")
    if options.host is not None and not options.host.strip() and not form:
        raise OptionError("--host is empty; name a server, or leave it out to use the embedded engine.")


def _filled(form: Mapping[str, str], options: Namespace) -> dict[str, str]:
    """Return the form; raises OptionError for a number that was cleared, which Locust cannot take."""
    for f in fields(Scenario):
        value_type = f.metadata["kind"]
        was = getattr(options, f.name)
        if value_type in {int, float} and form.get(f.name) == "" and was not in {None, ""}:
            raise OptionError(f"{flag(f.name)}: a number is needed; it was {was}.")
    return dict(form)
