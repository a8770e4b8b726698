"""Users with their own code: a conversation of two turns, each with a name, and the answers read."""

from locust import task

from loadgen import LLMUser


class Support(LLMUser):
    """Asks a question, and follows up with the history."""

    @task
    def ask_and_follow_up(self) -> None:
        """Ask, read the answer, and ask again."""
        first = self.llm.chat("My order has not arrived. What can I do?", name="first question")
        second = self.llm.chat([*first.messages, "And if it does not come tomorrow?"], name="follow-up")
        assert second.messages[-1]["content"] == second.text
