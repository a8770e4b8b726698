"""Measure how many requests per minute an engine handles: ever more users, until there is nothing more to gain.

    locust -f locustfiles/sweep.py --headless --host http://localhost:8000 --model NAME

--steps 1,2,4,8 names the concurrent users of each step; without it they double until throughput stops growing. Add
--processes 4 to spread the users over so many processes.
"""

from locust import task

from loadgen import SweepUser


class Sweep(SweepUser):
    """Asks one prompt after another, each as soon as the answer before it is complete."""

    @task
    def ask(self) -> None:
        """Ask the next prompt of the sample."""
        self.llm.chat(self.llm.next_prompt())
