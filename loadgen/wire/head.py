"""The head of a request to a target: its path, or the whole URL where a proxy is asked, and its headers."""

from collections.abc import Mapping

from loadgen.wire.http1 import head_bytes
from loadgen.wire.target import Target


def request_head(method: str, target: Target, path: str, own: Mapping[str, str], given: Mapping[str, str]) -> bytes:
    """Return the head. Headers that were ``given`` take the place of our ``own`` of the same name, however spelt."""
    named = {name.lower() for name in given}
    headers = {name: value for name, value in own.items() if name.lower() not in named} | dict(given)
    if target.proxy is not None and target.tls is None:
        path = f"{target.origin}{path}"
        if target.proxy.authorization is not None:
            headers["Proxy-Authorization"] = target.proxy.authorization
    return head_bytes(method, path or "/", headers)
