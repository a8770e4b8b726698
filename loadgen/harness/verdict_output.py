"""Shows the verdict of a run, and remarks on it, when the run or the process ends."""

import os
import sys
from collections.abc import Callable
from typing import TextIO

from loadgen.harness.process import say
from loadgen.run.result import RunResult


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

    def show(self, save: Callable[[RunResult], None]) -> bool:
        """Print what has not been shown yet; return whether the terminal took it.

        ``save``: writes the reports of a result. It may take some time, so it is called once the verdict can be read,
        and before the last line says where the reports are. It may add a remark.
        """
        result, self._result = self._result, None
        is_shown = result is None or self._print(result, save)
        remark, self._remark = self._remark, None
        self.is_explained = self.is_explained or result is not None or remark is not None
        if remark is not None:
            say(remark)
        return is_shown

    def _print(self, result: RunResult, save: Callable[[RunResult], None]) -> bool:
        from loadgen.results.terminal import show, show_folder  # rich draws random numbers when it is imported

        stream = sys.stderr if self._to_stderr else sys.stdout
        is_shown = _printed(lambda: show(result.summary, stream), result, stream)
        save(result)
        return _printed(lambda: show_folder(str(result.folder), stream), result, stream) if is_shown else False


def _printed(show: Callable[[], None], result: RunResult, stream: TextIO) -> bool:
    """Print something of a result; return whether the terminal took it."""
    try:
        show()
        stream.flush()
    except OSError as error:
        say(f"the verdict cannot be shown ({error.strerror}): it is in {result.folder}.")
        _drop_output(stream)
        return False
    return True


def _drop_output(stream: TextIO) -> None:
    """Discard what is still printed to a stream: it would fail again when the interpreter ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
