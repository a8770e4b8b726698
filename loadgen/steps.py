"""The values of ``--steps`` and ``--precision``."""

from itertools import pairwise

from loadgen.errors import UsageError

MOST_USERS = 100_000
"""Of a step: beyond it the ports of one address run out, and a number that large is a slip."""


def parse_steps(text: str) -> tuple[int, ...] | None:
    """Read the users of each step, as in ``1,2,4,8``; None for ``auto``. Raises UsageError."""
    if text.strip() == "auto":
        return None
    steps = tuple(_users(part.strip(), text) for part in text.split(","))
    for before, after in pairwise(steps):
        if after == before:
            raise _wrong(text, f"{after} is there twice")
        if after < before:
            raise _wrong(text, f"{after} comes after {before}")
    return steps


def parse_precision(text: str) -> float:
    """Read a share, as in ``2%`` or ``0.02``; raises UsageError unless it is above 0 and below 1."""
    number, percent = text.strip().removesuffix("%"), text.strip().endswith("%")
    try:
        share = float(number) / (100 if percent else 1)
    except ValueError:
        raise UsageError(f"--precision must be a share, as in 2% or 0.02, got {text!r}.") from None
    if not 0 < share < 1:
        raise UsageError(
            f"--precision must be above 0 and below 1 (100%), got {text!r}; two percent are written 2% or 0.02."
        )
    return share


def _users(part: str, text: str) -> int:
    try:
        users = int(part)
    except ValueError:
        raise _wrong(text, f"{part!r} is not a whole number" if part else "a number is missing") from None
    if users < 1:
        raise _wrong(text, f"{users} users make no requests")
    if users > MOST_USERS:
        raise _wrong(text, f"{users} users are more than {MOST_USERS}")
    return users


def _wrong(text: str, why: str) -> UsageError:
    return UsageError(
        f"--steps {text!r}: {why}; give numbers of concurrent users from 1 to {MOST_USERS}, each above the one before, "
        "as in 1,2,4,8, or 'auto'."
    )
