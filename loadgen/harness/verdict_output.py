"""Shows the verdict of the last run, and ends the process with a status that the user can explain."""

import os
import sys
from typing import TYPE_CHECKING

from loadgen.exit_status import ExitStatus
from loadgen.harness.process import say
from loadgen.run.result import RunResult

if TYPE_CHECKING:
    from loadgen.harness.session import Session


class VerdictOutput:
    """What is still to be shown when a run, or the process, ends."""

    def __init__(self, session: "Session") -> None:
        self._session = session
        self._result: RunResult | None = None
        self._remark: str | None = None
        self._is_explained = False
        """Whether the user knows why the exit status is what it is."""

    def take(self, result: RunResult) -> None:
        """Take the result of a run, to be shown."""
        self._result = result

    def remark(self, text: str) -> None:
        """Take a sentence, to be shown after the verdict."""
        self._remark = text

    def explained(self) -> None:
        """Note that the user has been told why the process ends as it does."""
        self._is_explained = True

    def show(self) -> None:
        """Print what has not been shown yet."""
        result, self._result = self._result, None
        remark, self._remark = self._remark, None
        if result is not None:
            self._is_explained = True
            self._print(result)
        if remark is not None:
            self._is_explained = True
            say(remark)

    def exit(self, exit_code: int) -> None:
        """Show what has not been shown, and end with the right status; ``exit_code`` is the one that Locust uses.

        A status that a locustfile has set itself stays.
        """
        self._session.guard(self.show)()
        status = self._session.environment.process_exit_code or 0
        if not self._is_explained:
            say(f"no run was made, so there is no verdict; exit status {status:d}.")
        if status != exit_code:
            raise SystemExit(status)

    def _print(self, result: RunResult) -> None:
        from loadgen.results.terminal import show  # rich draws random numbers when it is imported

        try:
            show(result.summary, str(result.folder))
            sys.stdout.flush()
        except OSError as error:
            self._session.set_exit_status(self._session.exit_status or ExitStatus.INCONCLUSIVE)
            say(f"the verdict cannot be shown ({error.strerror}): it is in {result.folder}.")
            _drop_output()


def _drop_output() -> None:
    """Let what is still printed go nowhere: it would fail again when the interpreter ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
