"""What this system can do for a reader, found out on a loopback pair: some accept an option and do nothing.

gVisor returns success for ``SO_TIMESTAMPNS`` and ``SO_RCVLOWAT`` and does neither (its ``socket/netstack`` lists both
as not implemented). Without stamps the times are those of user space; without the mark, streams are read token by
token.
"""

import _socket
import select
import socket
import time
from dataclasses import dataclass
from functools import cache

from loadgen.wire.connection import new_socket
from loadgen.wire.response_reader import CONTROL_BYTES

_TRIES, _PAUSE_S = 40, 0.01
"""The kernel begins to stamp some time after the first socket that wants stamps."""

_HELD_BACK_MS = 50


@dataclass(frozen=True, slots=True)
class Capability:
    """What was found to work."""

    stamps: bool
    """Whether reads carry the kernel's receive time."""
    low_water: bool
    """Whether a socket is not ready before as many bytes are there as were asked for."""


@cache
def capability() -> Capability:
    """Find out, once in a process."""
    try:
        server, client = _pair()
    except OSError:  # no loopback
        return Capability(stamps=False, low_water=False)
    try:
        return Capability(stamps=_has_stamps(server, client), low_water=_has_low_water(server, client))
    except OSError:
        return Capability(stamps=False, low_water=False)
    finally:
        server.close()
        client.close()


def _pair() -> tuple[socket.socket, _socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(1)
        client = new_socket()
        client.connect_ex(listener.getsockname())
        server, _ = listener.accept()
        return server, client


def _has_stamps(server: socket.socket, client: _socket.socket) -> bool:
    for _ in range(_TRIES):
        server.send(b"x")
        if not _is_ready(client):
            return False
        _, control, _, _ = client.recvmsg(1, CONTROL_BYTES)
        if control:
            return True
        time.sleep(_PAUSE_S)
    return False


def _has_low_water(server: socket.socket, client: _socket.socket) -> bool:
    client.setsockopt(_socket.SOL_SOCKET, _socket.SO_RCVLOWAT, 2)
    server.send(b"x")
    if _is_ready(client):
        return False
    server.send(b"y")
    return _is_ready(client)


def _is_ready(client: _socket.socket) -> bool:
    poll = select.poll()
    poll.register(client.fileno(), select.POLLIN)
    return bool(poll.poll(_HELD_BACK_MS))
