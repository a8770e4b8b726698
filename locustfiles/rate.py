"""Measure what users experience at a given rate of requests, however slow the engine is to answer.

    locust -f locustfiles/rate.py --headless --host http://localhost:8000 --model NAME --rate 2 --run-time 5m

Requests are sent at the times of a schedule that was drawn beforehand, and their latency counts from those times.
--arrivals is poisson, constant or gamma.
"""

from locust import task

from loadgen import OpenLoopUser


class Arrivals(OpenLoopUser):
    """Asks at the times of the schedule, whether or not those before have been answered."""

    @task
    def ask(self) -> None:
        """Ask the prompts of the sample, each when it is due."""
        self.ask_on_schedule()
