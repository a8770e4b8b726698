"""Waiting for workers before a run. Locust would wait for the dead, and take workers that do not come for a bug."""

from typing import TYPE_CHECKING

import gevent

from loadgen.clock import SECOND
from loadgen.exit_status import ExitStatus
from loadgen.harness.forked import end_forks
from loadgen.harness.process import say
from loadgen.run.remote_pool import RemotePool

if TYPE_CHECKING:
    from loadgen.harness.session import Session


def watch_workers(session: "Session", pool: RemotePool) -> None:
    """End the process where a worker is gone before the run begins, or too few come in time; raises SystemExit."""
    options = session.options
    due = session.runtime.now() + (options.expect_workers_max_wait or float("inf")) * SECOND  # 0 is for ever
    waits = session.starts_by_itself
    while not session.begun:
        gone = pool.gone(forks_only=not waits)
        if gone is not None:
            say(f"{gone}, before the run began; exit status {ExitStatus.INVALID:d}.")
            end_forks()
            raise SystemExit(ExitStatus.INVALID)
        if waits and session.runtime.now() >= due:
            say(
                f"{len(pool.present())} of {options.expect_workers} workers came in "
                f"{options.expect_workers_max_wait:g} s: start them with --worker --master-host HOST --master-port "
                f"{options.master_bind_port} and the same locustfile, or raise --expect-workers-max-wait."
            )
            raise SystemExit(ExitStatus.USAGE)
        gevent.sleep(0.2)
