"""Wakes greenlets on time: libev waits in whole milliseconds, a timerfd does not."""

import ctypes
import heapq
import os
import time
from collections.abc import Callable
from itertools import count
from typing import Any

from gevent.hub import Waiter as Slot
from gevent.hub import get_hub

from loadgen.clock import SECOND, Ns, now

_READ = 1
_CLOCK_MONOTONIC = time.CLOCK_MONOTONIC
_TFD_NONBLOCK, _TFD_CLOEXEC = os.O_NONBLOCK, os.O_CLOEXEC
_TFD_TIMER_ABSTIME = 1
"""From sys/timerfd.h."""


class _Spec(ctypes.Structure):
    """``struct itimerspec``: interval, then when it goes off first; seconds and nanoseconds each."""

    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("s", ctypes.c_long),
        ("ns", ctypes.c_long),
    )


class Alarm:
    """One timer for all that sleep; raises OSError or AttributeError where the system has no timerfd."""

    def __init__(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._settime: Callable[..., int] = libc.timerfd_settime
        self._fd: int = libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_NONBLOCK | _TFD_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._due: list[tuple[int, int, Any]] = []
        self._number = count()
        self._watcher = get_hub().loop.io(self._fd, _READ)

    def sleep_until(self, at: Ns) -> None:
        """Sleep until ``at``."""
        if at <= now():
            return
        slot = Slot(get_hub())
        entry = (at, next(self._number), slot)
        heapq.heappush(self._due, entry)
        if self._due[0] is entry:
            self._set(at)
        if not self._watcher.active:
            self._watcher.start(self._ring)
        try:
            slot.get()
        finally:
            if entry in self._due:  # woken by something else
                self._due.remove(entry)
                heapq.heapify(self._due)

    def _ring(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return
        at = now()
        while self._due and self._due[0][0] <= at:
            _, _, slot = heapq.heappop(self._due)
            slot.switch(None)
        if self._due:
            self._set(Ns(self._due[0][0]))
        else:
            self._watcher.stop()

    def _set(self, at: Ns) -> None:
        spec = _Spec(0, 0, at // SECOND, at % SECOND)
        self._settime(self._fd, _TFD_TIMER_ABSTIME, ctypes.byref(spec), None)
