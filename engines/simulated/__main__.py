"""``python -m loadgen.engines.simulated``: start the truth server.

It prints its address and stops when standard input ends.

With ``--until-killed`` it stops at SIGTERM or SIGINT instead, and that is no error either.
"""

import argparse
import contextlib
import gc
import os
import signal
import sys
from dataclasses import fields
from pathlib import Path

from loadgen.engines.simulated.batching import PROFILES
from loadgen.engines.simulated.listener import raise_limit_of_files
from loadgen.engines.simulated.script import Script
from loadgen.engines.simulated.server import Server
from loadgen.engines.simulated.tls import context


def sleep_exactly() -> None:
    """Have the kernel end our sleeps on time instead of up to 50 us late, where it can (Linux 4.6)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/timerslack_ns").write_text("1")


def readable_when_killed() -> int:
    """Return a file descriptor that is readable as soon as somebody wants this process to end."""
    readable, writable = os.pipe()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os.write(writable, b"."))
    return readable


def main() -> int:
    """Serve until it is time to stop."""
    parser = argparse.ArgumentParser(
        prog="python -m loadgen.engines.simulated", description="A server whose truth is known."
    )
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--log", help="file to which the times of all sends are appended, JSON lines")
    parser.add_argument("--until-killed", action="store_true", help="stop at SIGTERM, not when standard input ends")
    parser.add_argument("--profile", choices=sorted(PROFILES), help="model an engine instead of playing a script")
    parser.add_argument("--time-factor", type=float, default=1.0, help="run a profile so many times faster")
    parser.add_argument("--tls-cert", help="serve https with this certificate, a PEM file")
    parser.add_argument("--tls-key", help="and this key")
    for f in fields(Script):
        if isinstance(f.default, bool):
            parser.add_argument("--" + f.name.replace("_", "-"), dest=f.name, action="store_true")
        else:
            kind = int if f.default is None else type(f.default)
            parser.add_argument("--" + f.name.replace("_", "-"), dest=f.name, type=kind, default=f.default)
    options = parser.parse_args()
    script = Script(**{f.name: getattr(options, f.name) for f in fields(Script)})
    profile = PROFILES[options.profile] if options.profile else None
    if (options.tls_cert is None) != (options.tls_key is None):
        parser.error("--tls-cert and --tls-key belong together")
    tls = context(options.tls_cert, options.tls_key) if options.tls_cert else None
    sys.stderr.write(raise_limit_of_files())
    sleep_exactly()
    server = Server(script, profile, time_factor=options.time_factor, log=options.log, port=options.port, tls=tls)
    stop_fd = readable_when_killed() if options.until_killed else sys.stdin.fileno()
    gc.freeze()
    gc.disable()  # nothing here makes cycles that matter, and a pause would be a late send
    sys.stdout.write(server.url + "\n")
    sys.stdout.flush()
    server.run(stop_fd)
    return 0


if __name__ == "__main__":
    sys.exit(main())
