"""``python -m engines.simulated``: start the truth server; it prints its address and stops when standard input ends."""

import argparse
import gc
import sys
from dataclasses import fields

from engines.simulated.batching import PROFILES
from engines.simulated.script import Script
from engines.simulated.server import Server


def main() -> int:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m engines.simulated", description="A server whose truth is known.")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--log", help="file to which the times of all sends are appended, JSON lines")
    parser.add_argument("--profile", choices=sorted(PROFILES), help="model an engine instead of playing a script")
    parser.add_argument("--time-factor", type=float, default=1.0, help="run a profile so many times faster")
    for f in fields(Script):
        if isinstance(f.default, bool):
            parser.add_argument("--" + f.name.replace("_", "-"), dest=f.name, action="store_true")
        else:
            kind = int if f.default is None else type(f.default)
            parser.add_argument("--" + f.name.replace("_", "-"), dest=f.name, type=kind, default=f.default)
    options = parser.parse_args()
    script = Script(**{f.name: getattr(options, f.name) for f in fields(Script)})
    profile = PROFILES[options.profile] if options.profile else None
    server = Server(script, profile, time_factor=options.time_factor, log=options.log, port=options.port)
    gc.freeze()
    gc.disable()  # nothing here makes cycles that matter, and a pause would be a late send
    sys.stdout.write(server.url + "\n")
    sys.stdout.flush()
    server.run(sys.stdin.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
