"""Measure how many tokens per second one user gets.

    locust -f locustfiles/chat.py --users 1 --headless --host http://localhost:8000 --model NAME

Without --host a small real engine is started on this machine. Without --headless the web UI opens on port 8089.
"""

from locust import task

from loadgen import LLMUser


class Chat(LLMUser):
    """Asks one prompt after another, each as soon as the answer before it is complete."""

    @task
    def ask(self) -> None:
        """Ask the next prompt of the sample."""
        self.llm.chat(self.llm.next_prompt())
