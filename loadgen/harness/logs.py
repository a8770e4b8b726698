"""What is logged, by us and by Locust: text of servers and workers forges no line of it and steers no terminal."""

import logging
from copy import copy
from typing import TextIO

from loadgen.printable import escaped, escaped_lines
from loadgen.terminal_text import terminal_width, wrapped

_TABLES = "locust.stats_logger"
"""Logs Locust's tables, line by line."""

_LOGGERS = ("root", "locust", _TABLES)
"""Those to which Locust gives handlers."""

_INDENT = 4
"""Of the further lines of a message, so that none of them looks like a message."""


class PrintableFormatter(logging.Formatter):
    """Formats as another formatter does, and escapes the result.

    A message of ours is on one line, which is broken between words where ``stream`` is a terminal. Locust logs
    tracebacks as messages of several lines: they keep their lines.
    """

    def __init__(self, formatter: logging.Formatter | None, stream: TextIO | None = None) -> None:
        super().__init__()
        self._formatter = formatter or logging.Formatter()
        self._stream = stream

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a record."""
        if record.name.startswith("loadgen"):
            record = copy(record)  # other handlers have theirs
            record.msg, record.args = escaped(record.getMessage()), None
        message, *more = escaped_lines(self._formatter.format(record)).split("\n")
        width = terminal_width(self._stream)
        if width is not None and record.name != _TABLES:
            message = wrapped(message, width, _INDENT)
        return "\n".join([message, *(" " * _INDENT + line for line in more)])


def escape_logs() -> None:
    """Escape whatever the handlers write that are there now."""
    for handler in {handler for name in _LOGGERS for handler in logging.getLogger(name).handlers}:
        if not isinstance(handler.formatter, PrintableFormatter):
            stream = handler.stream if isinstance(handler, logging.StreamHandler) else None
            handler.setFormatter(PrintableFormatter(handler.formatter, stream))
