"""Patches of Locust, all of them, each with its reason. They are for Locust 2.47."""

import logging
from argparse import Namespace
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import gevent
import zmq.green as zmq
from gevent.pywsgi import WSGIServer
from locust import TaskSet, runners, stats, web
from locust.argument_parser import LocustArgumentParser
from locust.exception import RPCError
from locust.rpc import Message, zmqrpc
from locust.runners import LocalRunner, MasterRunner, Runner, WorkerRunner
from locust.user.task import DefaultTaskSet

from loadgen.exit_status import ExitStatus
from loadgen.harness import ports
from loadgen.harness.packets import LARGEST_BYTES, decoded, drops, problem
from loadgen.harness.process import users_for
from loadgen.harness.users import RunUser
from loadgen.suggestion import suggestion

logger = logging.getLogger(__name__)

REPORT_S = 1.0
"""Workers report so often: what is seen live is no older, and a step ends no later than it could."""

_HANDSHAKE_FAILED = (
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)

_family: tuple[bytes, bytes] | None = None
"""Public and secret key of a master and the workers that it forks; None where workers are started by hand."""


def apply() -> None:
    """Patch Locust; called once in a process, before Locust opens anything."""
    runners.WORKER_REPORT_INTERVAL = REPORT_S
    zmqrpc.BaseSocket.__init__ = _opening(zmqrpc.BaseSocket.__init__)  # type: ignore[method-assign]
    zmqrpc.BaseSocket.recv_from_client = _receive_from_worker  # type: ignore[method-assign]
    zmqrpc.BaseSocket.recv = _receive_from_master  # type: ignore[method-assign]
    LocalRunner.start = _guarding_users(LocalRunner.start)  # type: ignore[method-assign]
    MasterRunner.start = _guarding_users(MasterRunner.start)  # type: ignore[method-assign]
    for runner in (LocalRunner, MasterRunner):
        runner.stop = _not_by_a_user(runner.stop)  # type: ignore[method-assign]
        runner.quit = _not_by_a_user(runner.quit)  # type: ignore[method-assign]
    TaskSet.execute_task = _naming_tasks(TaskSet.execute_task)  # type: ignore[method-assign]
    DefaultTaskSet.execute_task = _naming_tasks(DefaultTaskSet.execute_task)  # type: ignore[method-assign]
    MasterRunner.handle_message = _handling_known(MasterRunner.handle_message)  # type: ignore[method-assign]
    WorkerRunner.handle_message = _surviving(WorkerRunner.handle_message)  # type: ignore[method-assign]
    LocustArgumentParser.error = _suggest  # type: ignore[method-assign]
    logging.getLogger("locust.main").addFilter(_is_true_of_the_run)
    web.pywsgi = SimpleNamespace(WSGIServer=_web_server)  # type: ignore[attr-defined]


def leave_out_tables() -> None:
    """Print none of Locust's tables: it prints them at the end of each run, and they would hide its result."""
    for name in ("print_stats", "print_percentile_stats", "print_error_report"):
        setattr(stats, name, lambda *_arguments, **_options: None)


def _is_true_of_the_run(record: logging.LogRecord) -> bool:
    """Drop Locust's message that only Ctrl-C ends a run without ``--run-time``: its load model ends it."""
    return not str(record.msg).startswith("No run time limit set")


def after_parsing(parser: LocustArgumentParser, check: Callable[[Namespace], None]) -> None:
    """Have options checked as soon as they are parsed: Locust has no event between parsing and its first fork."""
    parse = parser.parse_args

    def parse_and_check(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 argparse's
        options = parse(*args, **kwargs)
        options.given_options = _given(parser, options)
        check(options)
        return options

    parser.parse_args = parse_and_check


def after_template_args(web_ui: web.WebUI, complete: Callable[[dict[str, Any]], None]) -> None:
    """Complete what Locust's page is made from: Locust collects it for each request, and has no event for that."""
    collect: Callable[[], None] = web_ui.update_template_args

    def collect_and_complete() -> None:
        collect()
        complete(web_ui.template_args)

    web_ui.update_template_args = collect_and_complete  # type: ignore[method-assign]


def _suggest(self: LocustArgumentParser, message: str) -> None:
    """End with an error message. Locust compares options with the whole word, so that a long value hides the name."""
    unknown = message.partition("unrecognized arguments:")[2].split()
    self.exit(ExitStatus.USAGE, f"{self.prog}: error: {message}{suggestion(self, unknown)}\n")


def _given(parser: LocustArgumentParser, options: Namespace) -> list[str]:
    """Return the flags of options that were given, by the command line, a variable or a file, and have a value."""
    by_default = parser.get_source_to_settings_dict().get("defaults", {})
    flags = {action.option_strings[-1]: action.dest for action in parser._actions if action.option_strings}  # noqa: SLF001
    return [flag for flag, name in flags.items() if flag not in by_default and getattr(options, name, None)]


def found_family() -> None:
    """Make the key pair by which a master knows the workers that it is about to fork, and they know it.

    It exists in the memory of these processes only. What others send is dropped by ZeroMQ before anything reads it.
    """
    global _family  # noqa: PLW0603 forked processes inherit it
    if zmq.has("curve"):
        _family = zmq.curve_keypair()


def _opening(original: Callable[..., None]) -> Callable[..., None]:
    """Locust binds by itself and lets everybody in: give it the port that is held, and let only the family in."""

    def open_socket(self: zmqrpc.BaseSocket, sock_type: int, ipv4_only: bool) -> None:  # noqa: FBT001 Locust's
        original(self, sock_type, ipv4_only)
        if sock_type == zmq.ROUTER:
            self.socket.setsockopt(zmq.MAXMSGSIZE, LARGEST_BYTES)
            if (held := ports.take(ports.MASTER)) is not None:
                self.socket.setsockopt(zmq.USE_FD, held.detach())
            gevent.spawn(_watch_handshakes, self.socket.get_monitor_socket(_HANDSHAKE_FAILED))
        if _family is not None:
            _admit(self.socket, sock_type, *_family)

    return open_socket


def _admit(sock: Any, sock_type: int, public: bytes, secret: bytes) -> None:  # noqa: ANN401 pyzmq's
    if sock_type == zmq.ROUTER:
        sock.curve_publickey, sock.curve_secretkey, sock.curve_server = public, secret, True
    else:
        sock.curve_publickey, sock.curve_secretkey = zmq.curve_keypair()
        sock.curve_serverkey = public


def _watch_handshakes(monitor: Any) -> None:  # noqa: ANN401 pyzmq's
    while True:
        monitor.recv_multipart()
        drops.note("what connects there does not speak as a worker of this run does")


def _receive_from_worker(self: zmqrpc.BaseSocket) -> tuple[str, Message]:
    """Return the next message at the master's port. On malformed ones Locust's greenlet would end, and with it the run.

    Raises RPCError where ZeroMQ fails.
    """
    while True:
        try:
            frames = self.socket.recv_multipart()
        except zmq.ZMQError as error:
            raise RPCError("ZMQ network broken") from error
        message = decoded(frames[1]) if len(frames) == 2 else None  # noqa: PLR2004 who sent it, and what
        if message is not None:
            return frames[0].decode(errors="replace"), message
        drops.note("they are malformed")
        gevent.sleep(0)  # whoever sends many must not stop everything else


def _receive_from_master(self: zmqrpc.BaseSocket) -> Message:
    """Return the next message of the master; malformed ones are dropped as the master drops them."""
    while True:
        try:
            message = decoded(self.socket.recv())
        except zmq.ZMQError as error:
            raise RPCError("ZMQ network broken") from error
        if message is not None:
            return message
        drops.note("they are malformed")
        gevent.sleep(0)


def _handling_known(original: Callable[..., None]) -> Callable[..., None]:
    """Locust takes reports of whoever sends them, and trusts their content."""
    survive = _surviving(original)

    def handle(self: MasterRunner, client_id: str, msg: Message) -> None:
        if (why := problem(msg, client_id, self.worker_indexes, self.custom_messages)) is not None:
            drops.note(why)
            gevent.sleep(0)
            return
        survive(self, client_id, msg)

    return handle


def _surviving(original: Callable[..., None]) -> Callable[..., None]:
    """Drop a message that Locust stumbles over: it would end the greenlet that reads all others."""

    def handle(*arguments: Any) -> None:  # noqa: ANN401 Locust's
        try:
            original(*arguments)
        except Exception as error:
            logger.debug("A message was dropped", exc_info=True)
            drops.note(f"they cannot be handled ({type(error).__name__})")

    return handle


def _guarding_users(original: Callable[..., None]) -> Callable[..., None]:
    """Ask who may change the number of users: a key, the web UI and programs set it without asking anybody."""

    def start(self: Runner, user_count: int, spawn_rate: float, *arguments: Any, **options: Any) -> None:  # noqa: ANN401
        users = users_for(self.environment, user_count, spawn_rate)
        if isinstance(users, str):
            logger.warning(users)
            return
        original(self, *users, *arguments, **options)

    return start


def _not_by_a_user(original: Callable[..., None]) -> Callable[..., None]:
    """Stop a run in a new greenlet if a task or a listener calls this: Locust kills the caller's while it stops."""

    def stop(self: Runner, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 Locust's
        mine = gevent.getcurrent()
        if mine in self.user_greenlets or mine is self.spawning_greenlet:
            gevent.spawn(original, self, *arguments, **options)
        else:
            original(self, *arguments, **options)

    return stop


def _naming_tasks(original: Callable[..., None]) -> Callable[..., None]:
    """Let our users know which task they are in; Locust has no event for it."""

    def execute_task(self: TaskSet, task: Callable[..., object]) -> None:
        if not isinstance(self.user, RunUser):
            original(self, task)
            return
        with self.user.running(task):
            original(self, task)

    return execute_task


def _web_server(address: tuple[str, int], *arguments: Any, **options: Any) -> WSGIServer:  # noqa: ANN401 gevent's
    """Locust listens when all else has been started, and a port that is taken ends it with a traceback: use ours."""
    return WSGIServer(ports.take(ports.WEB) or address, *arguments, **options)
