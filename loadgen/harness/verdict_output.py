"""Shows the verdict of a run, and remarks on it, when the run or the process ends."""

import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO

from loadgen.exit_status import ExitStatus
from loadgen.harness.process import say
from loadgen.printable import escaped
from loadgen.run.result import RunResult

logger = logging.getLogger(__name__)


class VerdictOutput:
    """What is still to be shown.

    ``to_stderr``: tables and verdict are printed to standard error, because standard output is kept for Locust's JSON.
    """

    def __init__(self, *, to_stderr: bool = False) -> None:
        self.is_explained = False
        """Whether the user has been told why the process ends as it does."""
        self._to_stderr = to_stderr
        self._result: RunResult | None = None
        self._remark: str | None = None

    def take(self, result: RunResult) -> None:
        """Take the result of a run, to be shown."""
        self._result = result

    def remark(self, text: str) -> None:
        """Take a sentence, to be shown after the verdict."""
        self._remark = text

    def show(self, save: Callable[[RunResult], None]) -> ExitStatus:
        """Print what has not been shown yet; return the exit status of a verdict that could not be shown, else 0.

        ``save``: writes the reports of a result. It may take some time, so it is called once the verdict can be read,
        and before the last line says where the reports are. It may add a remark.
        """
        result, self._result = self._result, None
        status = ExitStatus.OK if result is None else self._print(result, save)
        remark, self._remark = self._remark, None
        self.is_explained = self.is_explained or result is not None or remark is not None
        if remark is not None:
            say(remark)
        return status

    def _print(self, result: RunResult, save: Callable[[RunResult], None]) -> ExitStatus:
        from loadgen.results.terminal import show, show_folder  # rich draws random numbers when it is imported

        stream = sys.stderr if self._to_stderr else sys.stdout
        status = _printed(lambda: show(result.summary, stream), result, stream)
        save(result)
        return status or _printed(lambda: show_folder(str(result.folder), stream), result, stream)


def _printed(show: Callable[[], None], result: RunResult, stream: TextIO | None) -> ExitStatus:
    """Print something of a result; return the exit status of a failure to do so, else 0."""
    try:
        show()
    except OSError as error:
        _say_where(result, error.strerror or str(error))
        _drop_output(stream)
        return ExitStatus.INCONCLUSIVE
    except Exception as error:
        logger.exception("An error while the verdict was printed")
        _say_where(result, f"{type(error).__name__}: {error}")
        _drop_output(stream)
        return ExitStatus.BUG
    return ExitStatus.OK


def _say_where(result: RunResult, why: str) -> None:
    say(f"the verdict cannot be shown ({escaped(why)}): it is in {result.folder}.")


def _drop_output(stream: TextIO | None) -> None:
    """Discard what is still printed to a stream: it would fail again when the interpreter ends."""
    if stream is not None:
        with suppress(OSError, ValueError):  # it is closed, or not a file
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
