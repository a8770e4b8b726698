"""Counts the tasks of a locustfile's users, and the exceptions that they raise.

An exception in a task is raised by the locustfile, not by loadgen: the run goes on, and the verdict counts it.
"""

from collections.abc import Sequence

from loadgen.measure.facts import UserCode

_LONGEST_TEXT = 300
"""Characters of an exception that are kept; its traceback is in the log."""


class UserCodeCounter:
    """Counts the tasks of one process."""

    def __init__(self) -> None:
        self._tasks = self._errors = 0
        self._first_error: str | None = None

    def note_task(self) -> None:
        """Count a task that starts."""
        self._tasks += 1

    def note_error(self, error: BaseException) -> None:
        """Count a task that raised ``error``; the task itself was counted when it started."""
        self._errors += 1
        if self._first_error is None:
            self._first_error = _text(error)

    @property
    def counted(self) -> UserCode | None:
        """What was counted so far; None if nothing was."""
        if not self._tasks and not self._errors:
            return None
        return UserCode(tasks=max(self._tasks, self._errors), errors=self._errors, first_error=self._first_error)


def together(processes: Sequence[UserCode | None]) -> UserCode | None:
    """Return the sum over processes; None if none of them counted. The first error is that of the first with one."""
    counted = [of_one for of_one in processes if of_one is not None]
    if not counted:
        return None
    return UserCode(
        tasks=sum(of_one.tasks for of_one in counted),
        errors=sum(of_one.errors for of_one in counted),
        first_error=next((of_one.first_error for of_one in counted if of_one.first_error is not None), None),
    )


def _text(error: BaseException) -> str:
    """Return the type and the message of an exception, on one line; a message that cannot be made is left out."""
    try:
        message = " ".join(str(error).split())
    except Exception:  # noqa: BLE001 code of the user's, which may raise anything
        message = ""
    return f"{type(error).__name__}{': ' if message else ''}{message}"[:_LONGEST_TEXT]
