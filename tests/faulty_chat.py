"""A chat in which something breaks after the first answers. FAULT says what, FAULT_IN in which process."""

import gc
import os
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

import gevent
import msgspec
from locust import events, task
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from loadgen import LLMUser

ANSWERS = 5
"""So many are there when it breaks."""

FAULT = os.environ.get("FAULT", "")
FAULT_IN = os.environ.get("FAULT_IN", "alone")


class Chat(LLMUser):
    """Asks one prompt after another."""

    @task
    def ask(self) -> None:
        """Ask the next prompt of the sample."""
        self.llm.chat(self.llm.next_prompt())


def greenlets() -> dict[str, list[gevent.Greenlet]]:
    """All greenlets that run code of the package, by what they run; not those of users, nor that which only counts."""
    found: dict[str, list[gevent.Greenlet]] = {}
    gc.unfreeze()  # else those from before the first request are not listed
    for thing in gc.get_objects():
        if not isinstance(thing, gevent.Greenlet) or thing.dead:
            continue
        run = thing._run
        if str(getattr(run, "__module__", "")).startswith("loadgen.") and run.__name__ != "_watch_handshakes":
            found.setdefault(str(getattr(run, "__qualname__", run)), []).append(thing)
    return found


def fail(*_: Any, **__: Any) -> NoReturn:
    raise OverflowError("as the test wants it")


def break_down(environment: Environment) -> None:
    while environment.stats.total.num_requests < ANSWERS:
        gevent.sleep(0.05)
    if FAULT in {"encode", "decode"}:
        setattr(msgspec.msgpack, FAULT, fail)
        return
    ours = greenlets()
    Path("greenlets").write_text("\n".join(sorted(ours)))
    for victim in ours[sorted(ours)[int(FAULT)]]:
        victim.kill(RuntimeError("as the test wants it"), block=False)


def process_of(runner: object) -> str:
    return {MasterRunner: "master", WorkerRunner: "worker"}.get(type(runner), "alone")


@events.init.add_listener
def init(environment: Environment, runner: object, **_: Any) -> None:
    if process_of(runner) != FAULT_IN:
        return
    if FAULT == "kill":  # it has joined
        os.kill(os.getpid(), signal.SIGKILL)
    if not FAULT.startswith(("fork", "terminate")):
        gevent.spawn(break_down, environment)


if FAULT == "fork":  # before it joins

    def die() -> None:
        os._exit(7)

    os.register_at_fork(after_in_child=die)

if FAULT == "terminate":  # while it ends

    @events.quitting.add_listener  # called after the package's, which is added later
    def terminate(**_: Any) -> None:
        sys.stdout.write("told to end while ending\n")
        os.kill(os.getpid(), signal.SIGTERM)
        gevent.sleep(0.5)
