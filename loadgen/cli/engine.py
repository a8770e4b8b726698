"""``loadgen engine``: start an engine by hand, look at what runs, and take it away."""

import argparse
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from loadgen.errors import EngineError, OptionError
from loadgen.exit_status import ExitStatus
from loadgen.printable import escaped_lines

if TYPE_CHECKING:
    from loadgen.cli.commands import Commands
    from loadgen.launch.order import Order
    from loadgen.launch.registry import Running

_LAST_PORT = 65_535


def add(commands: "Commands") -> None:
    """Declare it and its own commands."""
    parser = commands.add_parser("engine", help="list, check, start and stop inference engines")
    own = parser.add_subparsers(required=True, metavar="COMMAND")
    listing = own.add_parser("list", help="the engines there are, and those that run")
    listing.set_defaults(run=_list)
    checking = own.add_parser("check", help="what is missing on this machine, and how to get it")
    checking.add_argument("engine", nargs="*", help="names or files; all if none is given")
    checking.set_defaults(run=_check)
    _add_up(own)
    down = own.add_parser("down", help="stop engines")
    down.add_argument("engine", nargs="*", help="names or ids; all that run if none is given")
    down.set_defaults(run=_down)
    logs = own.add_parser("logs", help="what an engine has printed")
    logs.add_argument("engine", help="name or id")
    logs.add_argument("-f", "--follow", action="store_true", help="go on until it ends")
    logs.set_defaults(run=_logs)


def _add_up(own: "Commands") -> None:
    up = own.add_parser("up", help="start an engine and leave it running")
    up.add_argument("engine", help="name, or a file of your own")
    up.add_argument("--model", required=True, help="name in the table, Hub id, folder, or GGUF file")
    up.add_argument(
        "--weights", choices=("trained", "random"), default="trained", help="random: made here, for speed alone"
    )
    up.add_argument("--gpus", help="GPUs to use, as in 0,1; as few as needed if not given")
    up.add_argument("--in", dest="runs_in", choices=("container", "environment"), help="which way to start it")
    up.add_argument("--context", type=int, help="tokens of one conversation (default: 2048, or the model's)")
    up.add_argument("--port", type=int, help="to listen on, on loopback; a free one if not given")
    up.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="of the engine's own")
    up.add_argument("--deadline", type=float, default=1800.0, help="seconds until it has to be ready")
    up.set_defaults(run=_up)


def _list(_: argparse.Namespace) -> int:
    from loadgen.launch.inventory import engines_table, running_table
    from loadgen.results.terminal import show_table

    show_table(engines_table())
    show_table(running_table())
    return ExitStatus.OK


def _check(options: argparse.Namespace) -> int:
    from loadgen.engines.catalogue import ENGINES, find_engine
    from loadgen.launch.inventory import check_table
    from loadgen.results.terminal import show_table

    engines = [find_engine(name) for name in options.engine] or list(ENGINES.values())
    table, all_can = check_table(engines)
    show_table(table)
    return ExitStatus.OK if all_can or not options.engine else ExitStatus.USAGE


def _up(options: argparse.Namespace) -> int:
    from loadgen.launch.interrupts import interruptible
    from loadgen.launch.launcher import log_path, reap, start
    from loadgen.launch.locks import exclusive
    from loadgen.live.status import Status

    interruptible()
    try:
        with Status() as status:
            reap(status)  # before it is looked how much memory is free
            order = _order(options)
            with exclusive(order.placement.gpus, f"loadgen engine up {order.engine.name}"):
                live = start(order, stays=True, log=log_path(order.engine.name), status=status)
    except KeyboardInterrupt:
        print("loadgen: interrupted; nothing is left of it.", file=sys.stderr)
        return ExitStatus.INCONCLUSIVE
    print(f"Measure it: loadgen run chat --users 1 --headless --host {live.running.host}")
    print(f"Stop it:    loadgen engine down {live.running.id}")
    return ExitStatus.OK


def _order(options: argparse.Namespace) -> "Order":
    """Return the engine to start, with its model and its place; raises UsageError with the reason it cannot start."""
    from loadgen.engines.catalogue import find_engine
    from loadgen.launch.gpus import gpus
    from loadgen.launch.models import model_named
    from loadgen.launch.options import chosen_gpus, parse_option
    from loadgen.launch.order import Order, context_for
    from loadgen.launch.placement import place, way
    from loadgen.launch.sources import check

    _check_numbers(options)
    engine, model = find_engine(options.engine), model_named(options.model)
    given: dict[str, str | int | float | bool] = {}
    for text in options.option:
        with OptionError.naming(f"--option {text}:"):
            name, value = parse_option(engine, text)
            given[name] = value
    if (why := engine.unsupported_reason(model, given)) is not None:
        raise EngineError(f"{engine.name} cannot serve {model.name}: {why}.")
    context = context_for(model, options.context)
    with OptionError.naming(f"--gpus {options.gpus}:"):
        usable = chosen_gpus(gpus(), options.gpus)
    launch = way(engine, usable, runs_in=options.runs_in)
    tokens = context * engine.reserved_sequences(given)
    placement = place(launch, model, usable, tokens=tokens, chosen=options.gpus is not None)
    check(model, launch, is_random=options.weights == "random")
    return Order(
        engine=engine,
        model=model,
        is_random=options.weights == "random",
        placement=placement,
        context=context,
        port=options.port,
        options=given,
        deadline_s=options.deadline,
    )


def _check_numbers(options: argparse.Namespace) -> None:
    if options.port is not None and not 1 <= options.port <= _LAST_PORT:
        raise OptionError(f"--port {options.port} is not valid; choose 1 to {_LAST_PORT}.")
    if options.context is not None and options.context < 1:
        raise OptionError(f"--context {options.context}: it must be at least 1.")
    if not 0 < options.deadline < float("inf"):
        raise OptionError(f"--deadline {options.deadline:g}: it must be above 0.")


def _down(options: argparse.Namespace) -> int:
    from loadgen.launch.launcher import end, reap, wait_for_memory
    from loadgen.launch.registry import registered
    from loadgen.live.status import Status

    with Status() as status:
        reap(status)
        everything = [r for r in registered() if r.owner is None]  # others are a matrix's, or being started
        running = [r for name in options.engine for r in _named(name)] if options.engine else everything
        for one in running:
            status.now(f"stopping {one.name} at {one.host}")
            end(one, status)
            status.say(f"stopped {one.name} at {one.host}")
        with suppress(KeyboardInterrupt):  # they are gone
            wait_for_memory(running, status)
        if not running:
            status.say("no engine runs")
    return ExitStatus.BUG if any(one.is_there for one in running) else ExitStatus.OK


def _logs(options: argparse.Namespace) -> int:
    from loadgen.launch.folders import state_folder

    try:
        log = Path(_named(options.engine)[-1].log)
    except OptionError:
        kept = sorted((state_folder() / "logs").glob(f"{Path(options.engine).stem}-*.log"))
        if not kept:
            raise
        log = kept[-1]  # of one that has ended
    with log.open(errors="replace") as file, suppress(KeyboardInterrupt, BrokenPipeError):
        print(escaped_lines(file.read()), end="")
        while options.follow and any(str(log) == one.log for one in _all()):
            print(escaped_lines(file.read()), end="", flush=True)
            time.sleep(0.2)
    return ExitStatus.OK


def _named(name: str) -> "list[Running]":
    found = [one for one in _all() if name in {one.id, one.name}]
    if not found:
        names = ", ".join(f"{one.name} ({one.id})" for one in _all()) or "none"
        raise OptionError(f"engine {name}: none of that name runs; there are: {names}.")
    return found


def _all() -> "list[Running]":
    from loadgen.launch.registry import registered

    return [one for one in registered() if one.is_there or one.container]
