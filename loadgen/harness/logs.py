"""What is logged, by us and by Locust: text of servers and workers forges no line of it and steers no terminal."""

import logging
from copy import copy

from loadgen.printable import escaped, escaped_lines

_LOGGERS = ("root", "locust", "locust.stats_logger")
"""Those to which Locust gives handlers."""


class PrintableFormatter(logging.Formatter):
    """Formats as another formatter does, and escapes the result.

    A message of ours is on one line. Locust logs tracebacks as messages of several lines: they keep their lines, all
    but the first indented, so that none of them looks like a message.
    """

    def __init__(self, formatter: logging.Formatter | None) -> None:
        super().__init__()
        self._formatter = formatter or logging.Formatter()

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a record."""
        if record.name.startswith("loadgen"):
            record = copy(record)  # other handlers have theirs
            record.msg, record.args = escaped(record.getMessage()), None
        return escaped_lines(self._formatter.format(record)).replace("\n", "\n    ")


def escape_logs() -> None:
    """Escape whatever the handlers write that are there now."""
    for handler in {handler for name in _LOGGERS for handler in logging.getLogger(name).handlers}:
        if not isinstance(handler.formatter, PrintableFormatter):
            handler.setFormatter(PrintableFormatter(handler.formatter))
