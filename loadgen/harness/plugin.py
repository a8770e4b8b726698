"""What hangs on Locust's events. Registering opens nothing, starts nothing and draws nothing."""

import atexit
import gc
import os
import sys
from argparse import Namespace
from collections.abc import Callable
from typing import Any

import gevent
from locust import events
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.runners import WorkerRunner
from locust.web import WebUI

from loadgen.errors import UsageError, WorkerLost
from loadgen.harness import forked, form, library, locust_patches, process, tab, web_guard
from loadgen.harness.logs import escape_logs
from loadgen.harness.options import add_options, check_command, set_bind_host
from loadgen.harness.session import Session
from loadgen.harness.user_classes import apply_to_options, check_classes, load_model_of
from loadgen.harness.users import RunUser
from loadgen.harness.worker import WorkerSession
from loadgen.harness.worker_wait import watch_workers
from loadgen.terminal_text import accept_every_character


def register() -> None:
    """Add our listeners to Locust's events."""
    events.init_command_line_parser.add_listener(_add_options)
    events.init.add_listener(_init)
    locust_patches.apply()


def _add_options(parser: LocustArgumentParser, **_: Any) -> None:  # noqa: ANN401 whatever Locust adds
    add_options(parser)
    locust_patches.after_parsing(parser, _check)


def _check(options: Namespace) -> None:
    if hasattr(options, "master_bind_host"):
        set_bind_host(options)
    _check_once(options)


_checked: list[int] = []
"""Process in which the command line was looked at: Locust parses it again for each page of its web UI."""


def _check_once(options: Namespace) -> None:
    """Look at the command line before Locust forks or listens, so that a mistake is reported once.

    Programs and debuggers parse options too, but they neither fork nor listen.
    """
    if _checked or not hasattr(options, "worker") or "locust.main" not in sys.modules:
        return
    _checked.append(os.getpid())
    accept_every_character()
    _ended_by_mistake(lambda: _check_options(options))
    if options.processes and not options.worker:
        locust_patches.found_family()
        forked.tie_forks()


def _check_options(options: Namespace) -> None:
    """Check a command line, as far as that can be done before the user classes are chosen."""
    named = set(options.user_classes or ())
    chosen = [c for c in RunUser.defined if not named or c.__name__ in named]
    is_listing = options.list_commands or options.show_task_ratio or options.show_task_ratio_json
    if not is_listing and not options.class_picker:
        check_command(options, load_model_of(chosen))


def _ended_by_mistake(action: Callable[[], None]) -> None:
    """Do something; a mistake of the user's ends the process here, before anything has been started."""
    try:
        action()
    except UsageError as error:
        process.say(str(error))
        raise SystemExit(error.exit_status) from None


def _init(environment: Environment, runner: Any, web_ui: WebUI | None, **_: Any) -> None:  # noqa: ANN401
    """Set the process up."""
    options = environment.parsed_options
    if options is None or not environment.parsed_locustfiles:
        if environment.user_classes:  # else they are not known before the first user starts
            library.set_up(environment)
        return
    escape_logs()
    forked.untie()
    process.end_when_told_to()
    if isinstance(runner, WorkerRunner):
        _set_up_worker(environment, runner, options)
        return
    session = Session(environment, runner, options)
    process.register(session)
    # The interpreter's last collections would walk all that was imported, for 0.4 s. Not in workers: one that ends so
    # soon after it quits is seen as an ended child process before its message is read.
    atexit.register(gc.freeze)
    atexit.register(session.close)
    try:
        _ended_by_mistake(lambda: _set_up(session, options))
    except SystemExit:
        if options.processes:
            forked.end_forks()
        raise
    follow(environment, session)
    on = environment.events
    on.quitting.add_listener(_first_only(_listener(session, session.quitting)))
    on.quit.add_listener(lambda exit_code, **_: session.exit(exit_code))
    session.on_interrupt(session.interrupt)
    if web_ui is not None:
        web_guard.add(web_ui, session, options)
        form.add(web_ui, session)
        tab.add(web_ui, session)


def _set_up(session: Session, options: Namespace) -> None:
    if not options.print_stats:
        options.only_summary = True  # the progress line is what is watched
        locust_patches.leave_out_tables()
    classes = session.environment.user_classes
    if not options.class_picker:
        check_classes(classes)
        apply_to_options(options, classes)
        options.num_users = session.first_users()
    if options.spawn_rate is None:  # all are there for the warm-up; the run spreads their first measured requests
        options.spawn_rate = float(max(1, options.num_users or 1))
    if session.pool is not None:
        session.spawn(watch_workers, session, session.pool)
    if session.endpoint.can_be_embedded:
        session.endpoint.ensure()
    if options.headless or options.autostart:
        session.prepare()


def _set_up_worker(environment: Environment, runner: WorkerRunner, options: Namespace) -> None:
    worker = WorkerSession(environment, runner, options, parent=os.getppid() if options.processes else None)
    process.register(worker)
    atexit.register(worker.close)
    on = environment.events
    on.report_to_master.add_listener(worker.guard(lambda data, **_: worker.report(data)))
    on.heartbeat_received.add_listener(lambda **_: worker.heartbeat())
    on.quitting.add_listener(_first_only(_listener(worker, worker.quitting)))
    on.test_stopping.add_listener(_listener(worker, worker.stopping))
    on.test_stop.add_listener(_listener(worker, worker.leave_run))
    on.user_error.add_listener(lambda user_instance, exception, **_: worker.note_user_error(user_instance, exception))
    worker.on_interrupt(worker.interrupt)


def follow(environment: Environment, session: Session) -> None:
    """Let a session's runs begin and end when Locust's do."""
    on = environment.events
    on.test_start.add_listener(_listener(session, session.begin))
    on.spawning_complete.add_listener(_listener(session, session.users_started))
    on.test_stopping.add_listener(_listener(session, session.stopping))
    on.test_stop.add_listener(_listener(session, session.finish))
    on.user_error.add_listener(lambda user_instance, exception, **_: session.note_user_error(user_instance, exception))


def _listener(of: Session | WorkerSession, action: Callable[[], None]) -> Callable[..., None]:
    """Make a listener of an action. Locust logs what a listener raises and goes on; a run must not."""

    def listener(environment: Environment | None = None, **_: Any) -> None:  # noqa: ANN401
        if environment is not None and environment is not of.environment:  # a program may have several
            return
        try:
            action()
        except UsageError as error:
            process.say(str(error))
            of.refuse(error.exit_status)
        except WorkerLost as error:
            process.say(f"{error}; exit status {error.exit_status:d}.")
            of.refuse(error.exit_status)

    return of.guard(listener)


def _first_only(quitting: Callable[..., None]) -> Callable[..., None]:
    """Hold up a second shutdown, of a signal that comes at the end of the run: the process ends with the first."""
    has_begun = False

    def once(**arguments: Any) -> None:  # noqa: ANN401 Locust's
        nonlocal has_begun
        while has_begun:
            gevent.sleep(60)
        has_begun = True
        quitting(**arguments)

    return once
