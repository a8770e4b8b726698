"""Who interrupts us, and when that has to wait."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

_OURS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def interruptible() -> None:
    """Have each signal that asks for our end raise KeyboardInterrupt: what was begun is ours to end, however we end."""
    for number in _OURS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, signal.default_int_handler)


def ignore_interrupts() -> None:
    """Ignore these signals from now on: the process is about to end, and has to end as it says."""
    for number in _OURS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Have none of them count for as long as a ``with`` lasts, which has to be short."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _OURS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
