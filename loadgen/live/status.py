"""What is done outside a run, on standard error: lines that stay, and on a terminal one for the present step."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from loadgen.printable import escaped, escaped_lines
from loadgen.terminal_text import wrapped


class Status:
    """Speaks inside a ``with``."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)
        self._line: Progress | None = None
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        """Take over the line."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Take the line away."""
        self.quiet()

    def say(self, text: str) -> None:
        """Print what stays, with the time since the beginning: one line, or more with the end of a log."""
        line, *log = f"[{time.monotonic() - self._began:.0f} s] {escaped_lines(text)}".split("\n")
        if self._console.is_terminal:
            line = wrapped(line, self._console.width, indent=4)
        self._console.print(Text("\n".join([line, *log])))

    def now(self, text: str) -> None:
        """Say what is being done, until something else is or :meth:`quiet`; silent where there is no terminal."""
        if not self._console.is_terminal:
            return
        if self._line is None:
            self._line = Progress(
                SpinnerColumn("line" if self._console.options.ascii_only else "dots"),
                TextColumn("{task.description}"),
                TimeElapsedColumn(),
                console=self._console,
                refresh_per_second=1,  # it is drawn on the cores that are being measured
                transient=True,
            )
            self._line.add_task("")
            self._line.start()
        self._line.update(self._line.task_ids[0], description=escape(escaped(text)))

    def quiet(self) -> None:
        """Take the line away: somebody else draws now."""
        if self._line is not None:
            self._line.stop()
            self._line = None
