"""From the options that shape a request to how it is made: its headers, with their secrets, its route and its body."""

from collections.abc import Mapping
from typing import Any

from loadgen.headers import parse_header
from loadgen.merge_patch import parse_patch
from loadgen.run.key_hosts import KeyHosts
from loadgen.run.secrets import resolved
from loadgen.scenario import Scenario
from loadgen.wire.target import Target

_KEY_HEADERS = {"bearer": ("Authorization", "Bearer "), "api-key": ("api-key", ""), "x-api-key": ("x-api-key", "")}
"""By ``--auth``: the header of the key, and what stands before it."""


def headers_of(
    scenario: Scenario, target: Target, key: str | None, key_hosts: KeyHosts | None
) -> tuple[Mapping[str, str], tuple[str, ...]]:
    """Return the headers that the user adds, that of the key among them, and the secrets in them.

    Without ``key_hosts`` nobody may get a secret, so headers with one are left out. Raises OptionError where a secret
    is missing, or is not for this server.
    """
    headers: dict[str, str] = {}
    secrets = [key] if key else []
    if key:
        name, prefix = _KEY_HEADERS[scenario.auth]
        headers[name] = prefix + key
    for header in map(parse_header, scenario.header):
        headers = {name: value for name, value in headers.items() if name.lower() != header.name.lower()}
        reference = header.reference
        if reference is None:
            headers[header.name] = header.value
        elif key_hosts is not None:
            key_hosts.check(target, f"{header.name} of --header")
            headers[header.name] = resolved(header)
            secrets.append(headers[header.name].removeprefix(reference.prefix))
    if target.proxy is not None and target.proxy.credentials is not None:
        secrets.append(target.proxy.credentials)
    return headers, tuple(secrets)


def extra_body_of(scenario: Scenario) -> Mapping[str, Any]:
    """Return what is merged into each body."""
    return {} if scenario.extra_body is None else parse_patch(scenario.extra_body)
