"""What hangs on Locust's events. Registering opens nothing, starts nothing and draws nothing."""

import atexit
import os
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from typing import Any

import flask
import gevent
import psutil
from locust import events, runners
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner
from locust.web import WebUI

from loadgen.errors import UsageError
from loadgen.harness import process, tab
from loadgen.harness.load_kind import LoadKind
from loadgen.harness.logs import escape_logs
from loadgen.harness.options import add_options, check_command
from loadgen.harness.session import Session
from loadgen.harness.users import OurUser
from loadgen.harness.worker import WorkerSession

REPORT_S = 1.0
"""Workers report so often: what is seen live is no older, and a step ends no later than it could."""


def register() -> None:
    """Add our listeners to Locust's events."""
    events.init_command_line_parser.add_listener(_add_options)
    events.init.add_listener(_init)
    runners.WORKER_REPORT_INTERVAL = REPORT_S


def _add_options(parser: LocustArgumentParser, **_: Any) -> None:  # noqa: ANN401 whatever Locust adds
    add_options(parser)
    parse = parser.parse_args

    def parse_and_check(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        options = parse(*args, **kwargs)
        _check_once(options)
        return options

    parser.parse_args = parse_and_check


_checked: list[int] = []
"""Process in which the command line was looked at: Locust parses it again for each page of its web UI."""


def _check_once(options: Namespace) -> None:
    """Look at the command line before Locust forks or listens, so that a mistake is told once."""
    if _checked or not hasattr(options, "worker"):
        return
    _checked.append(os.getpid())
    _ended_by_mistake(lambda: check_command(options, _kind()))


def _kind() -> LoadKind:
    if len(OurUser.kinds) > 1:
        raise UsageError("one kind of load at a time: the locustfiles define users of several.")
    return next(iter(OurUser.kinds), LoadKind.CLOSED)


def _ended_by_mistake(action: Callable[[], None]) -> None:
    """Do something; a mistake of the user's ends the process here, before anything has been started."""
    try:
        action()
    except UsageError as error:
        print(f"loadgen: {error}", file=sys.stderr)  # noqa: T201
        raise SystemExit(2) from None


def _init(environment: Environment, runner: Any, web_ui: WebUI | None, **_: Any) -> None:  # noqa: ANN401
    """Set the process up."""
    options = environment.parsed_options
    if options is None:  # Locust as a library
        return
    escape_logs()
    if isinstance(runner, WorkerRunner):
        _set_up_worker(environment, runner, options)
        return
    session = Session(environment, runner, options, _kind())
    process.register(session)
    atexit.register(session.close)
    try:
        _ended_by_mistake(lambda: _set_up(session, runner, options))
    except SystemExit:
        if options.processes:
            _end_children()
        raise
    _follow(environment, session)
    if web_ui is not None:
        _guard_start(web_ui, session)
        tab.add(web_ui, session)


def _end_children() -> None:
    """End the workers that were forked, none of which has a part in a run: Locust leaves them waiting for a minute."""
    for child in psutil.Process().children():
        child.terminate()


def _set_up(session: Session, runner: Any, options: Namespace) -> None:  # noqa: ANN401 one of Locust's runners
    options.only_summary = options.only_summary or not options.print_stats  # the progress line is what is watched
    options.num_users = session.first_users()
    if options.spawn_rate is None:  # all are there for the warm-up; the run spreads their first measured requests
        options.spawn_rate = float(max(1, options.num_users or 1))
    if isinstance(runner, MasterRunner):
        runner.environment.events.worker_report.add_listener(_report_listener(session))
        if options.headless or options.autostart:
            gevent.spawn(_await_workers, runner, options)
    if session.can_have_engine:
        session.ensure_host()
    if options.headless or options.autostart:
        session.prepare()


def _set_up_worker(environment: Environment, runner: WorkerRunner, options: Namespace) -> None:
    worker = WorkerSession(environment, runner, options, parent=os.getppid() if options.processes else None)
    process.register(worker)
    atexit.register(worker.close)
    on = environment.events
    on.report_to_master.add_listener(lambda data, **_: worker.report(data))
    on.heartbeat_received.add_listener(lambda **_: worker.heartbeat())
    on.quitting.add_listener(_listener(worker, worker.quitting))
    on.test_stopping.add_listener(_listener(worker, worker.stopping))
    on.test_stop.add_listener(_listener(worker, worker.finish))
    on.user_error.add_listener(_listener(worker, worker.note_bug))
    worker.on_interrupt(worker.interrupt)


def _report_listener(session: Session) -> Callable[..., None]:
    def listener(client_id: str, data: dict[str, Any], **_: Any) -> None:  # noqa: ANN401
        try:
            session.heard(client_id, data)
        except Exception:
            session.note_bug()
            raise

    return listener


def _await_workers(runner: MasterRunner, options: Namespace) -> None:
    """End the process where no workers come in time. Locust would too, but as if it were a bug."""
    limit = options.expect_workers_max_wait
    began = time.monotonic()
    while len(runner.clients) < options.expect_workers:
        if limit and time.monotonic() - began >= limit:
            came = f"{len(runner.clients)} of {options.expect_workers} workers came in {limit:g} s"
            print(  # noqa: T201
                f"loadgen: {came}: start them with --worker --master-host HOST --master-port "
                f"{options.master_bind_port} and the same locustfile, or raise --expect-workers-max-wait.",
                file=sys.stderr,
            )
            raise SystemExit(2)
        gevent.sleep(0.2)


def _follow(environment: Environment, session: Session) -> None:
    on = environment.events
    on.test_start.add_listener(_listener(session, session.begin))
    on.spawning_complete.add_listener(_listener(session, session.ramped))
    on.quitting.add_listener(_listener(session, session.quitting))
    on.test_stopping.add_listener(_listener(session, session.stopping))
    on.test_stop.add_listener(_listener(session, session.finish))
    on.user_error.add_listener(_listener(session, session.note_bug))
    on.quit.add_listener(_listener(session, session.show))
    session.on_interrupt(session.interrupt)


def _listener(of: Session | WorkerSession, action: Callable[[], None]) -> Callable[..., None]:
    """Make a listener of an action. Locust logs what a listener raises and goes on; a run must not."""

    def listener(**_: Any) -> None:  # noqa: ANN401
        try:
            action()
        except UsageError as error:
            print(f"loadgen: {error}", file=sys.stderr)  # noqa: T201
            of.refuse()
        except Exception:
            of.note_bug()
            raise

    return listener


def _guard_start(web_ui: WebUI, session: Session) -> None:
    """Look at a start from the web UI before Locust acts on it, so that a mistake is shown in the form."""

    def check_start() -> flask.Response | None:
        if flask.request.endpoint != "locust.swarm":
            return None
        try:
            if session.ending:
                raise UsageError("the last run is still ending: start again in a moment.")  # noqa: TRY301
            if not session.idle:
                return None  # a change of the users of a run
            session.prepare(flask.request.form)
        except UsageError as error:
            return flask.jsonify({"success": False, "message": str(error), "host": session.environment.host})
        return None

    assert web_ui.app is not None
    web_ui.app.before_request(check_start)
