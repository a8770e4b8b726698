"""``loadgen gpu-exporter``: this machine's GPUs for Prometheus."""

import argparse
import math
from contextlib import suppress
from typing import TYPE_CHECKING

from loadgen.errors import EngineError, OptionError
from loadgen.exit_status import ExitStatus

if TYPE_CHECKING:
    from loadgen.cli.commands import Commands

LISTEN = "127.0.0.1:9401"
_LAST_PORT = 65_535
_LEAST_INTERVAL_S, _LONGEST_INTERVAL_S = 0.1, 3600.0


def add(commands: "Commands") -> None:
    """Declare it."""
    what = "serve metrics of this machine's NVIDIA GPUs to Prometheus"
    parser = commands.add_parser("gpu-exporter", help=what, description=f"{what.capitalize()}, until Ctrl-C.")
    parser.add_argument(
        "--listen", default=LISTEN, metavar="ADDR:PORT", help=f"address and port to serve them at (default: {LISTEN})"
    )
    parser.add_argument("--interval", default="1", metavar="SECONDS", help="seconds between two readings (default: 1)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Serve metrics until a signal ends the process; return 0.

    Raises EngineError if no GPU can be read, and OptionError for an option that is not valid.
    """
    from loadgen.launch.interrupts import interruptible

    with OptionError.naming(f"--interval {options.interval}:"):
        interval_s = _interval_s(options.interval)
    with OptionError.naming(f"--listen {options.listen}:"):
        address = _address(options.listen)
    interruptible()
    with suppress(KeyboardInterrupt):
        _serve(address, interval_s)
    return ExitStatus.OK


def _serve(address: tuple[str, int], interval_s: float) -> None:
    from loadgen.gpu_exporter.machine import Machine
    from loadgen.gpu_exporter.poller import Poller
    from loadgen.gpu_exporter.server import Server
    from loadgen.launch.gpus import why_none
    from loadgen.launch.interrupts import undisturbed

    machine = Machine()
    if not machine.open():
        none = why_none() or "there is no GPU that we may use"
        raise EngineError(
            f"gpu-exporter: {none}. It runs on the engine's host; runs do without it, and so without GPU panels."
        )
    try:
        server = Server(*address)
    except (OSError, UnicodeError) as error:  # the latter, from a name that cannot be one
        why = getattr(error, "strerror", None) or error
        raise OptionError(f"--listen {address[0]}:{address[1]}: {why}; give another ADDR:PORT.") from None
    with server:
        poller = Poller(machine, interval_s)
        try:
            server.kept = poller.text
            print(f"GPU metrics: {server.url}", flush=True)
            server.serve_forever()
        finally:
            with undisturbed():
                poller.close()


def _address(text: str) -> tuple[str, int]:
    """Return host and port of ``ADDR:PORT``; raises ValueError for anything else."""
    address, _, port = text.rpartition(":")
    if not address or not (port.isascii() and port.isdigit()) or int(port) > _LAST_PORT:
        raise ValueError(f"write ADDR:PORT, as in {LISTEN}.")
    return address.removeprefix("[").removesuffix("]"), int(port)


def _interval_s(text: str) -> float:
    """Return a number of seconds; raises ValueError unless it is within the range of intervals."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not _LEAST_INTERVAL_S <= seconds <= _LONGEST_INTERVAL_S:
        raise ValueError(f"it must be a number of seconds from {_LEAST_INTERVAL_S} to {_LONGEST_INTERVAL_S:g}.")
    return seconds
