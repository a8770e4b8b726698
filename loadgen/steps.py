"""Parsers of the values of ``--steps`` and ``--precision``. They raise ValueError and do not name the option."""

from itertools import pairwise

MOST_USERS = 100_000
"""Largest number of users in a step. With more, the ports of one address run out; such a number is a typing error."""


def parse_steps(text: str) -> tuple[int, ...] | None:
    """Return the number of users of each step of a list, as in ``1,2,4,8``; None for ``auto``.

    Raises ValueError, whose text does not repeat the list.
    """
    if text.strip() == "auto":
        return None
    steps = tuple(_users(part.strip()) for part in text.split(","))
    for before, after in pairwise(steps):
        if after == before:
            raise _wrong(f"{after} is there twice")
        if after < before:
            raise _wrong(f"{after} comes after {before}")
    return steps


def parse_precision(text: str) -> float:
    """Return a share, as in ``2%`` or ``0.02``.

    Raises ValueError unless it is a number above 0 and below 1. The text of the error is a predicate, ``must be ...``.
    """
    number, percent = text.strip().removesuffix("%"), text.strip().endswith("%")
    try:
        share = float(number) / (100 if percent else 1)
    except ValueError:
        raise ValueError(f"must be a share, as in 2% or 0.02, got {text!r}.") from None
    if not 0 < share < 1:
        raise ValueError(f"must be above 0 and below 1 (100%), got {text!r}; two percent are written 2% or 0.02.")
    return share


def _users(part: str) -> int:
    try:
        users = int(part)
    except ValueError:
        raise _wrong(f"{part!r} is not a whole number" if part else "a number is missing") from None
    if users < 1:
        raise _wrong(f"{users} users make no requests")
    if users > MOST_USERS:
        raise _wrong(f"{users} users are more than {MOST_USERS}")
    return users


def _wrong(why: str) -> ValueError:
    return ValueError(
        f"{why}; give numbers of concurrent users from 1 to {MOST_USERS}, each above the one before, "
        "as in 1,2,4,8, or 'auto'."
    )
