"""What hangs on Locust's events. Registering opens nothing, starts nothing and draws nothing."""

import atexit
import signal
import sys
from collections.abc import Callable
from typing import Any

import flask
import gevent
from locust import events
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.runners import LocalRunner
from locust.web import WebUI

from loadgen.errors import UsageError
from loadgen.harness.options import add_options
from loadgen.harness.session import Session, open_session


def register() -> None:
    """Add our listeners to Locust's events."""
    events.init_command_line_parser.add_listener(_add_options)
    events.init.add_listener(_init)


def _add_options(parser: LocustArgumentParser, **_: Any) -> None:  # noqa: ANN401 whatever Locust adds
    add_options(parser)


def _init(environment: Environment, runner: Any, web_ui: WebUI | None, **_: Any) -> None:  # noqa: ANN401
    """Set the process up; a mistake of the user's ends it here, before anything has been started."""
    if environment.parsed_options is None:  # Locust as a library
        return
    try:
        session = _set_up(environment, runner)
    except UsageError as error:
        print(f"loadgen: {error}", file=sys.stderr)  # noqa: T201
        raise SystemExit(2) from None
    _follow(environment, session)
    if web_ui is not None:
        _guard_start(web_ui, session)


def _set_up(environment: Environment, runner: Any) -> Session:  # noqa: ANN401 one of Locust's runners
    options = environment.parsed_options
    assert options is not None
    if not isinstance(runner, LocalRunner):
        raise UsageError(
            "this version measures from one process: leave out --master, --worker and --processes. "
            "One process holds hundreds of streams; --users sets how many."
        )
    options.only_summary = options.only_summary or not options.print_stats  # the progress line is what is watched
    session = open_session(environment, runner, options)
    if options.spawn_rate is None:  # all are there for the warm-up; the run spreads their first measured requests
        options.spawn_rate = float(max(1, options.num_users or 1))
    atexit.register(session.close)
    session.ensure_host()
    if options.headless or options.autostart:
        session.prepare()
    return session


def _follow(environment: Environment, session: Session) -> None:
    on = environment.events
    on.test_start.add_listener(_listener(session, session.begin))
    on.spawning_complete.add_listener(_listener(session, session.ramped))
    on.quitting.add_listener(_listener(session, session.quitting))
    on.test_stopping.add_listener(_listener(session, session.stopping))
    on.test_stop.add_listener(_listener(session, session.finish))
    on.user_error.add_listener(_listener(session, session.note_bug))
    on.quit.add_listener(_listener(session, session.show))
    _take_interrupts(session)


def _listener(session: Session, action: Callable[[], None]) -> Callable[..., None]:
    """Make a listener of an action. Locust logs what a listener raises and goes on; a run must not."""

    def listener(**_: Any) -> None:  # noqa: ANN401
        try:
            action()
        except UsageError as error:
            print(f"loadgen: {error}", file=sys.stderr)  # noqa: T201
            session.note_bug()
        except Exception:
            session.note_bug()
            raise

    return listener


def _take_interrupts(session: Session) -> None:
    """Turn SIGINT into an orderly end: as KeyboardInterrupt it would hit whichever greenlet runs, even a request's."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda *_: gevent.spawn(session.interrupt))


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
