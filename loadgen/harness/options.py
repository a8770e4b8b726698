"""The project's options on Locust's command line, made from the scenario's fields."""

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from locust.argument_parser import LocustArgumentParser

from engines import DIALECTS
from loadgen.errors import UsageError
from loadgen.scenario import Scenario, flag, resolve

STOP_TIMEOUT_S = 60
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
    parser.set_defaults(stop_timeout=STOP_TIMEOUT_S)


def scenario_of(options: Namespace, form: Mapping[str, str] | None = None) -> Scenario:
    """Return the scenario of Locust's parsed options, with a web form's values over them; raises UsageError."""
    scenario = resolve(vars(options) | _filled(form or {}, options))
    _check_locusts_own(options, form or {})
    if scenario.engine not in DIALECTS:
        raise UsageError(f"--engine: unknown engine {scenario.engine!r}; there are {', '.join(sorted(DIALECTS))}.")
    if scenario.client == "openai" and not DIALECTS[scenario.engine].path(stream=True).startswith("/v1/"):
        raise UsageError(f"--client openai: {scenario.engine} has no OpenAI route; use the own client.")
    return scenario


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
        if f.metadata["kind"] in {int, float} and form.get(f.name) == "" and getattr(options, f.name) is not None:
            raise UsageError(f"{flag(f.name)}: a number is needed; it was {getattr(options, f.name)}.")
    return dict(form)
