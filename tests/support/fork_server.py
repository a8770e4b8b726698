"""Forks Locust: ``python fork_server.py SOCKET locust``, a program that ``locust_process.py`` starts.

It imports Locust and our harness once, which takes most of a start's time, and forks for each order that comes on the
socket. It has no thread and no gevent hub, so that a fork is as good as a new interpreter. The fork takes the standard
streams, environment, directory and arguments of its order, and goes on as ``python -m locust`` does.

The server forks twice, and the process in between ends at once. The other is adopted by the process that sent the
order, and is its child from then on.
"""

import _socket  # gevent's sockets and sleeps need a hub
import gc
import inspect
import json
import os
import posix
import runpy
import signal
import sys
from array import array
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

MOST_BYTES = 1 << 17
"""Length of the longest order."""

_STREAMS = 3
_MODULES = (
    *("locust.main", "loadgen.harness", "loadgen.live.progress", "loadgen.results.terminal"),
    *("matplotlib.figure", "matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg", "numpy.random"),
)


def prepare(orders: int) -> None:
    """Import what a run needs; keep nothing that a fork could not share."""
    for module in _MODULES:
        import_module(module)
    inspect.stack()  # Locust's runner does so when it stops: the modules' files are kept from now on
    import gevent

    gevent.get_hub().destroy(destroy_loop=True)  # urllib3 makes a gevent socket when it is imported
    descriptors = {int(path.name) for path in Path("/proc/self/fd").iterdir() if path.exists()}
    assert descriptors == {0, 1, 2, orders}, descriptors
    assert len(list(Path("/proc/self/task").iterdir())) == 1, "a fork would lack a thread"
    gc.collect()
    gc.freeze()


def serve(orders: _socket.socket) -> None:
    """Fork for each order, and return in the forked process. The server itself exits when nobody can order any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests, at whose end this ends
    while True:
        data, ancillary, _, _ = orders.recvmsg(MOST_BYTES, _socket.CMSG_SPACE(_STREAMS * array("i").itemsize))
        if not data:
            sys.exit()
        streams = array("i", ancillary[0][2])
        started, starting = posix.pipe()
        between = posix.fork()
        if between == 0:
            if posix.fork() != 0:
                posix._exit(0)
            while posix.getppid() == between:
                posix.sched_yield()
            orders.close()
            posix.close(started)
            become(json.loads(data), streams)
            posix.write(starting, str(posix.getpid()).encode())
            posix.close(starting)
            return
        posix.close(starting)
        posix.waitpid(between, 0)
        orders.send(posix.read(started, 32) or b"0")
        for descriptor in (started, *streams):
            posix.close(descriptor)


def become(order: dict[str, Any], streams: Sequence[int]) -> None:
    """Make this process what it would be, had it been started with an order's arguments and streams."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if order["new_session"]:
        posix.setsid()
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.argv[1:] = order["arguments"]
    sys.path[0] = str(Path.cwd())
    for number, (name, stream) in enumerate(zip(("stdin", "stdout", "stderr"), streams, strict=True)):
        posix.dup2(stream, number)
        old = getattr(sys, name)
        mode, buffering = ("r" if name == "stdin" else "w"), (1 if name == "stderr" else -1)
        new = open(number, mode, buffering, old.encoding, old.errors, closefd=False)  # noqa: SIM115 it stays open
        setattr(sys, name, new)
        setattr(sys, f"__{name}__", new)
    for stream in streams:
        posix.close(stream)


if __name__ == "__main__":
    descriptor = int(sys.argv[1])
    prepare(descriptor)
    serve(_socket.socket(fileno=descriptor))
    runpy.run_module("locust", run_name="__main__", alter_sys=True)
