"""Exit statuses of the commands; they are a contract with scripts that call them."""

from enum import IntEnum


class ExitStatus(IntEnum):
    """How a command ended."""

    OK = 0
    """A verdict was shown, and it is VALID or WARN."""
    BUG = 1
    """Code of loadgen failed."""
    USAGE = 2
    """The user made a mistake, or the server that was named does not fit; nothing was measured."""
    INVALID = 3
    """The figures cannot be used, or a worker was lost before the run."""
    INCONCLUSIVE = 4
    """The run was interrupted or cut short, or no verdict was shown."""
