"""An open loop: requests at the times of an absolute schedule, whatever has become of those before."""

from msgspec.structs import replace

from loadgen.clock import SECOND, Ns
from loadgen.errors import OptionError
from loadgen.measure.facts import Arrivals
from loadgen.results.manifest import Kind
from loadgen.run.load.model import LoadModel, RunningLoad
from loadgen.scenario import Scenario

EPOCH_AHEAD_S = 1.0
"""The schedule starts this long after all processes were told, so that they can prepare the first requests."""

_ASSUMED_E2E_MS = 1000.0
"""Round trip of a request if no warm-up measured it; it only decides how many streams are read token by token."""


class OpenLoop(LoadModel):
    """Poisson, constant or gamma arrivals at ``--rate``; one Locust user for each process sends its share."""

    title = "open loop"
    locustfile = "locustfiles/rate.py"
    options = {"rate": None}  # noqa: RUF012 declared as a ClassVar in the base class
    uses = ("requests", "rate", "arrivals", "gap_cv", "max_in_flight")
    user_option = "--rate"
    users_warm_up = False

    @classmethod
    def check(cls, scenario: Scenario) -> None:
        """Raise OptionError without a rate."""
        if scenario.rate is None:
            raise OptionError("--rate is needed: how many requests per second are to be sent?")

    @classmethod
    def first_users(cls, scenario: Scenario, users: int | None) -> int | None:
        """Return one; each process gets one when the load starts."""
        del scenario, users
        return 1

    @property
    def kind(self) -> Kind:
        """A rate."""
        return "rate"

    def own_end(self, run_time_s: float | None) -> str | None:
        """Return after how many requests the schedule ends, and about when."""
        end, planned = super().own_end(run_time_s), self.planned_requests(run_time_s)
        if end is None or planned is None or self.scenario.rate is None:
            return None
        return f"{end}, which are due within about {planned / self.scenario.rate:.0f} s"

    def arrivals(self) -> Arrivals:
        """Return the schedule that is asked for."""
        scenario = self.scenario
        assert scenario.rate is not None
        return Arrivals(
            process=scenario.arrivals,  # type: ignore[arg-type]  # checked when the scenario was resolved
            rate=scenario.rate,
            cv=scenario.cv,
            max_in_flight=scenario.max_in_flight,
        )

    def play(self, load: RunningLoad) -> None:
        """Let the schedule start, and wait for its end."""
        arrivals = load.manifest.arrivals
        assert arrivals is not None
        expected = arrivals.rate * (load.warmed_up.e2e_ms or _ASSUMED_E2E_MS) / 1000
        load.set_users(load.processes)
        epoch = Ns(load.now() + int(EPOCH_AHEAD_S * SECOND))
        load.manifest.arrivals = replace(arrivals, epoch_ns=epoch)
        load.save()
        load.start_step(step=None, users=max(2, round(expected)), spread_s=0.0, epoch=epoch)
        while not load.all_done:
            load.wait()
