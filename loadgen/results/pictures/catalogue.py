"""Which pictures a run has, in the order of its report."""

from loadgen.results.pictures.by_concurrency import by_concurrency
from loadgen.results.pictures.distributions import distributions
from loadgen.results.pictures.drawing import Picture
from loadgen.results.pictures.engine import engine_clock
from loadgen.results.pictures.names import by_name
from loadgen.results.pictures.one_user import in_order
from loadgen.results.pictures.requests import over_input, over_time
from loadgen.results.pictures.time_line import time_line
from loadgen.results.run_data import Run


def pictures(run: Run) -> list[Picture]:
    """Return the pictures of a run that it has data for."""
    return [
        *by_concurrency(run.summary),
        *in_order(run),
        *time_line(run),
        *distributions(run),
        *over_time(run),
        *over_input(run),
        *by_name(run),
        *engine_clock(run),
    ]
