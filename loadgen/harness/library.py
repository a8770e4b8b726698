"""Locust as a library: an Environment of a script, of pytest or of a debugger, without the ``locust`` command.

Options are those of ``LOADGEN_*`` variables, or ``parsed_options`` of the environment. The run begins and ends with the
runner, its verdict is printed when it ends, and signals and the process's exit status stay the program's own.
"""

import atexit
from argparse import Namespace

from locust.argument_parser import get_parser
from locust.env import Environment
from locust.runners import STATE_INIT, LocalRunner, MasterRunner

from loadgen.harness import process
from loadgen.harness.session import Session
from loadgen.harness.user_classes import check_classes
from loadgen.run.result import RunResult


def set_up(environment: Environment) -> None:
    """Set up the runs of an environment; raises UsageError for user classes or options that cannot be measured."""
    if process.is_registered(environment):
        return
    from loadgen.harness.plugin import follow  # which sets up environments itself

    options = environment.parsed_options or _default_options()
    has_begun = environment.runner is None or environment.runner.state != STATE_INIT  # a debugger has no runner
    runner = environment.runner or environment.create_local_runner()
    if not isinstance(runner, LocalRunner | MasterRunner):
        raise TypeError("loadgen: a worker's Environment needs the locust command: locust -f FILE --worker")
    options.headless = options.autostart = False  # neither begins a run nor ends the process
    if not environment.stop_timeout:
        environment.stop_timeout = float(options.stop_timeout)  # else requests in flight at the end would be aborted
    check_classes(environment.user_classes)
    session = Session(environment, runner, options, is_command=False)
    process.register(session)
    atexit.register(_end, session)
    follow(environment, session)
    if has_begun:  # its events have passed
        session.begin()


def last_result(environment: Environment) -> RunResult | None:
    """Return the summary, folder and exit status of an environment's last run; None if none has ended."""
    session = process.process_of(environment) if process.is_registered(environment) else None
    return session.result if isinstance(session, Session) else None


def _end(session: Session) -> None:
    """End a run that is still going on when the program ends, as the run of a debugger's single user is."""
    session.finish()
    session.close()


def _default_options() -> Namespace:
    options: Namespace = get_parser().parse_args([])
    return options
