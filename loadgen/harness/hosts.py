"""The hosts that Locust and the locustfile name."""

from locust.env import Environment


def given_hosts(environment: Environment) -> list[str | None]:
    """Return the hosts that a process was started with; call it before a form or a master has named another."""
    return [environment.host, *(user_class.host for user_class in environment.user_classes)]
