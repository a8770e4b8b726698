"""Exceptions whose text is a message to the user, and the disk errors that are nobody's mistake."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
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
    """Base of all mistakes that the user can correct; commands print the text alone and exit with status 2.

    Code raises a subclass, which says what has to be corrected. The text names the flag, file or server that is wrong,
    and the way out. It may quote servers and files, so ``str()`` returns it escaped and on one line. ``log`` is output
    of an engine or a command; its lines are kept and follow the text.
    """

    exit_status: ClassVar = ExitStatus.USAGE

    def __init__(self, text: str, log: str = "") -> None:
        super().__init__(text, log)
        self._text, self._log = text, log

    def __str__(self) -> str:
        """Return the message as it is shown."""
        return "\n".join(filter(None, (escaped(self._text), escaped_lines(self._log))))

    @classmethod
    @contextmanager
    def naming(cls, subject: str) -> Iterator[None]:
        """Turn a ValueError of the ``with`` block into this exception: ``subject``, a space, the error's text.

        Parsers of values raise ValueError, as they do not know which flag or key the value came from. The caller does,
        and passes it as ``subject``, with its colon: ``with OptionError.naming("--slo:"): parse_slo(text)``.
        """
        try:
            yield
        except ValueError as error:
            raise cls(f"{subject} {error}") from None


class OptionError(UsageError):
    """A command-line option, an argument or an environment variable is not valid, or does not go with another one."""


class ConfigFileError(UsageError):
    """A configuration file of the user is not valid: ``matrix.toml``, or a Python file that declares an engine."""


class DataError(UsageError):
    """Data cannot be read: a data set, a results folder, a manifest or a record."""


class EndpointError(UsageError):
    """The server that the user named does not answer, or does not fit the run: its API, its models or its key."""


class EngineError(UsageError):
    """An engine cannot be started or used on this machine.

    Reasons: the engine or model is unknown, they do not go together, the environment, weights, memory, disk space or
    GPUs are missing or in use, or the engine ended or was not ready in time.
    """


class RunError(UsageError):
    """A run that a matrix or a calibration started has ended without results."""


class WorkerError(UsageError):
    """A worker cannot take part in the run: its version, its files or its keys do not fit what the master asks for."""


class WorkerLost(Exception):  # noqa: N818 it is the worker that is lost
    """A worker is gone before the run could begin; the text names it."""

    exit_status: ClassVar = ExitStatus.INVALID
