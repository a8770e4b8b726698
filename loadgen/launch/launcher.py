"""Starts an engine, proves that it works, and takes it away again until nothing of it is left."""

import secrets
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from loadgen.engines.engine import Container
from loadgen.errors import EngineError, OptionError
from loadgen.launch import containers, environments, processes, readiness, registry, sources
from loadgen.launch.folders import made, state_folder
from loadgen.launch.gpus import free_bytes, wait_freed
from loadgen.launch.interrupts import undisturbed
from loadgen.launch.order import HOST, Order, Ports, commands, launched, served_name, shown, variables
from loadgen.launch.placement import check_memory
from loadgen.launch.registry import Running
from loadgen.live.status import Status

_FREED_S = 30.0
_FREED_TOLERANCE_BYTES = 300_000_000
"""Of a GPU's memory; contexts of others come and go."""


def start(order: Order, *, stays: bool, log: Path, status: Status) -> "RunningEngine":
    """Start an engine and wait until it has generated something; one that ``stays`` outlives this process.

    Raises OptionError if its port is taken, and EngineError if it cannot start, with the last lines of its log. Then no
    process of it is left.
    """
    ports = _ports(order.port)
    check_memory(order.model, order.placement, order.tokens)
    _install(order, status)
    source = sources.get(order.model, order.placement.launch, is_random=order.is_random, status=status)
    engine_id = f"{''.join(c if c.isalnum() else '-' for c in order.engine.name)}-{secrets.token_hex(3)}"
    running = Running(
        id=engine_id,
        name=order.engine.name,
        host=f"http://{HOST}:{ports[0]}",
        gpus=order.placement.indices,
        free_before=free_bytes(order.placement.indices),
        log=str(log.absolute()),
        kill=order.placement.launch.needs_sigkill,
        container=f"loadgen-{engine_id}" if isinstance(order.placement.launch.runs_in, Container) else None,
        owner=processes.this_process(),
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    live = RunningEngine(running)
    lines = commands(order, source, ports, engine_id)
    registry.register(running)  # before the start: whatever is killed now is found by the next of us
    try:
        status.say(f"starting {order.title}: {shown(lines, variables(order))}")
        began = time.monotonic()
        live.spawn(lines, variables(order))
        serves = served_name(order, source, ports)
        begun = readiness.Started(
            order.engine,
            order.title,
            running.host,
            serves,
            log,
            live.ended,
            lambda: running.container is not None or processes.listens(engine_id, ports[0]),
        )
        readiness.wait_until_ready(begun, order.deadline_s, status)
        seconds = time.monotonic() - began
        running.launched = launched(order, source, lines, serves, running.host, seconds)
        running.owner = None if stays else running.owner
        registry.register(running)
    except BaseException:
        stop(live, status)
        raise
    status.say(f"{order.title} serves {order.model.name} at {running.host} after {seconds:.1f} s")
    return live


@contextmanager
def started(order: Order, *, log: Path, status: Status) -> Iterator["RunningEngine"]:
    """Have an engine for as long as a ``with`` lasts."""
    live = start(order, stays=False, log=log, status=status)
    try:
        yield live
    finally:
        stop(live, status)


class RunningEngine:
    """An engine that we have started."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self._processes: list[subprocess.Popen[bytes]] = []

    def spawn(self, lines: Sequence[Sequence[str]], variables: Mapping[str, str]) -> None:
        """Start the processes of the engine; raises EngineError if one cannot be executed."""
        log = Path(self.running.log)
        for line in lines:
            try:
                self._processes.append(
                    processes.spawn(line, mark=self.running.id, variables=variables, folder=log.parent, log=log)
                )
            except OSError as error:
                raise EngineError(f"{self.running.name}: {line[0]} cannot be started ({error.strerror}).") from None

    def ended(self) -> int | None:
        """Return the exit status of a process of it that has ended, None while all run."""
        return next((status for process in self._processes if (status := process.poll()) is not None), None)

    def collect(self) -> None:
        """Take note of our children's ends, so that none stays as a zombie."""
        for process in self._processes:
            process.poll()


def stop(live: RunningEngine, status: Status) -> None:
    """End an engine, and wait until its GPUs' memory is back; not to be interrupted, as it would be left then."""
    running = live.running
    status.now(f"stopping {running.name}")
    with undisturbed():
        end(running, status)
        live.collect()
    wait_for_memory([running], status)


def wait_for_memory(ended: Sequence[Running], status: Status) -> None:
    """Wait until GPUs have the memory back that engines had which are ended; says where it is still taken."""
    others = {index for one in registry.registered() if one.is_there for index in one.gpus}
    before: dict[int, int] = {}
    for one in ended:
        before |= {index: max(free, before.get(index, 0)) for index, free in one.free_before.items()}
    wanted = [index for index in before if index not in others]
    if wanted and (left := wait_freed(wanted, before, _FREED_S, _FREED_TOLERANCE_BYTES)):
        names = ", ".join(one.name for one in ended)
        status.say(f"GPU {', '.join(map(str, left))}: memory that was free before {names} is still taken.")


def end(running: Running, status: Status) -> None:
    """End a registered engine: container, processes, entry; says what cannot be ended."""
    problem = containers.remove(running.container) if running.container else None
    left = processes.end(running.id, politely=not running.kill)
    if problem is None and not left:
        registry.forget(running)
        return
    status.say(f"{running.name} cannot be ended: {problem or f'processes {left} are still there'}.")


def reap(status: Status) -> None:
    """End what was left by processes of ours that were killed."""
    orphans = [running for running in registry.registered() if running.is_orphan]
    for running in orphans:
        end(running, status)
        status.say(f"ended {running.name} at {running.host}, left by a process that was killed")
    wait_for_memory(orphans, status)


def log_path(name: str) -> Path:
    """Return a new log for an engine that is nobody's."""
    return (
        made(state_folder() / "logs", "XDG_STATE_HOME") / f"{Path(name).stem}-{datetime.now(UTC):%Y%m%d-%H%M%S-%f}.log"
    )


def _ports(wanted: int | None) -> Ports:
    """Return three free ports, the first of them as wanted; raises OptionError if that one is taken."""
    with ExitStack() as held:
        found = []
        for port in (wanted or 0, 0, 0):
            try:
                probe = held.enter_context(socket.create_server((HOST, port)))
            except OSError as error:
                raise OptionError(
                    f"--port {port}: cannot listen there ({error.strerror}); leave it out for a free one."
                ) from None
            found.append(int(probe.getsockname()[1]))
        return found[0], found[1], found[2]


def _install(order: Order, status: Status) -> None:
    runs_in = order.placement.launch.runs_in
    if isinstance(runs_in, Container):
        containers.pull(runs_in.image, status)
    else:
        environments.make(runs_in, order.engine.name, status)
