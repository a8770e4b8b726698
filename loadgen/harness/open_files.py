"""How many files the system lets a process open: each user of it has a connection."""

import resource

from loadgen.errors import OptionError
from loadgen.scenario import Scenario
from loadgen.steps import parse_steps

SPARE = 128
"""Files that are open beside connections: results, logs, libraries while they are imported, pipes, timers."""


def provide(scenario: Scenario, users: int, processes: int) -> None:
    """Raise the limit so far that all connections of a process may be open; raises OptionError where it may not be."""
    option, most = _most_connections(scenario, users)
    needed = -(-most // processes) + SPARE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise OptionError(
            f"{option} {most:,}: that takes {needed:,} open files in a process, and `ulimit -Hn` allows {hard:,}. "
            "Raise that limit, or spread the users over more --processes."
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _most_connections(scenario: Scenario, users: int) -> tuple[str, int]:
    """Return the most connections at once, of all processes, and the option that sets it."""
    if scenario.rate is not None:
        return "--max-in-flight", scenario.max_in_flight
    listed = parse_steps(scenario.steps)
    return ("--steps", max(listed)) if listed is not None and max(listed) > users else ("--users", users)
