"""Ports that are bound before Locust forks, and handed to whoever serves there.

A probe would let two runs that start at once pass it together, and the workers of one join the master of the other.
"""

import os
import socket
from contextlib import suppress

from loadgen.errors import OptionError

MASTER = "--master-bind-port"
WEB = "--web-port"

_ANY = {"", "*"}
_held: dict[str, socket.socket] = {}
_advice = {
    MASTER: "Choose another port, and give workers the same as --master-port.",
    WEB: "Choose another port, or add --headless.",
}


def hold(flag: str, host: str, port: int) -> None:
    """Listen at a port from now on; raises OptionError naming its flag where that is not possible."""
    everywhere = host in _ANY
    dual = everywhere and socket.has_dualstack_ipv6()
    try:
        family = socket.AF_INET6 if dual else socket.AF_INET if everywhere else _family(host, port)
        held = socket.create_server(("" if everywhere else host, port), family=family, backlog=100, dualstack_ipv6=dual)
    except (OSError, OverflowError) as error:
        raise OptionError(
            f"{flag} {port}: cannot listen there ({getattr(error, 'strerror', None) or error}), perhaps another run "
            f"does. {_advice[flag]}"
        ) from None
    held.settimeout(0)  # ZeroMQ must never wait in it
    _held[flag] = held


def take(flag: str) -> socket.socket | None:
    """Return the listening socket of a flag, once; None if there is none."""
    return _held.pop(flag, None)


def _family(host: str, port: int) -> int:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]


def _let_go() -> None:
    """Close what only the parent serves: a worker that kept it would hold the port beyond its master's end."""
    while _held:
        with suppress(OSError):
            _held.popitem()[1].close()


os.register_at_fork(after_in_child=_let_go)
