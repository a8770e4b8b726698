"""What hangs on Locust's events. Registering opens nothing, starts nothing and draws nothing."""

import atexit
import sys
from collections.abc import Callable
from typing import Any

import flask
from locust import events
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.runners import LocalRunner
from locust.web import WebUI

from loadgen.errors import UsageError
from loadgen.harness.options import add_options, default_spawn_rate
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
    if options.spawn_rate is None:
        options.spawn_rate = default_spawn_rate(options.num_users)
    options.only_summary = options.only_summary or not options.print_stats  # the progress line is what is watched
    session = open_session(environment, runner, options)
    atexit.register(session.close)
    session.ensure_host()
    if options.headless or options.autostart:
        session.prepare()
    return session


def _follow(environment: Environment, session: Session) -> None:
    on = environment.events
    on.test_start.add_listener(_quietly(session.begin))
    on.spawning_complete.add_listener(_quietly(session.ramped))
    on.quitting.add_listener(_quietly(session.quitting))
    on.test_stopping.add_listener(_quietly(session.stopping))
    on.test_stop.add_listener(_quietly(session.finish))
    on.user_error.add_listener(_quietly(session.note_bug))
    on.quit.add_listener(_quietly(session.show))


def _quietly(action: Callable[[], None]) -> Callable[..., None]:
    def listener(**_: Any) -> None:  # noqa: ANN401
        action()

    return listener


def _guard_start(web_ui: WebUI, session: Session) -> None:
    """Look at a start from the web UI before Locust acts on it, so that a mistake is shown in the form."""

    def check_start() -> flask.Response | None:
        if flask.request.endpoint != "locust.swarm" or not session.idle:
            return None
        try:
            session.prepare(flask.request.form)
        except UsageError as error:
            return flask.jsonify({"success": False, "message": str(error), "host": session.environment.host})
        return None

    assert web_ui.app is not None
    web_ui.app.before_request(check_start)
