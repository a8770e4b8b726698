"""The exception that is a message to the user, and the errors of a disk, which are nobody's mistake."""

import errno
from typing import ClassVar

from loadgen.exit_status import ExitStatus
from loadgen.printable import escaped, escaped_lines

DISK_ERRORS = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EFBIG,
        errno.EIO,
        errno.EROFS,
        errno.EACCES,
        errno.EPERM,
        errno.ENOTDIR,
    }
)
"""Values of ``OSError.errno`` with which a disk refuses a write."""


class UsageError(Exception):
    """A mistake of the user's: the text names the flag or file and the way out. Printed alone, exit status 2.

    The text may quote servers and files: as a string it is on one line and escaped. What an engine printed, of which
    the lines matter, is ``log``: it follows on lines of its own.
    """

    exit_status: ClassVar = ExitStatus.USAGE

    def __init__(self, text: str, log: str = "") -> None:
        super().__init__(text, log)
        self._text, self._log = text, log

    def __str__(self) -> str:
        """Return the message as it is shown."""
        return "\n".join(filter(None, (escaped(self._text), escaped_lines(self._log))))


class WorkerError(UsageError):
    """A worker cannot take part in the run."""


class WorkerLost(Exception):  # noqa: N818 it is the worker that is lost
    """A worker is gone before the run could begin; the text names it."""

    exit_status: ClassVar = ExitStatus.INVALID
