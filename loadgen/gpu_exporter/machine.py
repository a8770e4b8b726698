"""The GPUs of this machine, read again and again while NVML stays open. Indices are those of ``nvidia-smi``."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import pynvml

from loadgen.gpu_exporter.gpm import Gpm
from loadgen.gpu_exporter.questions import QUESTIONS, Answer, Pcie, Question

REOPEN_POLLS = 30
"""While a GPU is lost NVML is opened anew every so many polls: only then a GPU can come back.

It takes milliseconds, and the other GPUs lack one value of GPM, which compares two samples.
"""

_NOT_THERE = {pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_FUNCTION_NOT_FOUND}

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Reading:
    """What one GPU has said at a poll."""

    index: int
    uuid: str
    name: str
    values: Answer
    """What is not supported is missing."""


@dataclass(frozen=True, slots=True)
class Poll:
    """What all GPUs have said."""

    at: float
    """When it ended, Unix time in s."""
    took_s: float
    driver: str
    """Empty where it does not say."""
    readings: tuple[Reading, ...]
    lost: int
    """GPUs that were there and do not answer."""


class Machine:
    """NVML and its GPUs, but for those that belong to others. Not for several threads at a time."""

    def __init__(self) -> None:
        self._is_open = False
        self._driver = ""
        self._gpus: list[_Gpu] = []
        self._most = 0
        """GPUs that were known at the best of times: one that is lost may not even be counted by NVML."""
        self._polls_with_loss = 0

    def open(self) -> bool:
        """Open NVML; tell whether there is a GPU, be it a lost one. Nothing is raised."""
        unreachable = 0
        with suppress(pynvml.NVMLError):
            pynvml.nvmlInit()
            self._is_open = True
            self._driver = _told(pynvml.nvmlSystemGetDriverVersion) or ""
            for index in range(pynvml.nvmlDeviceGetCount()):
                try:
                    self._gpus.append(_Gpu(index))
                except pynvml.NVMLError as error:
                    unreachable += error.value != pynvml.NVML_ERROR_NO_PERMISSION
        self._most = max(self._most, len(self._gpus) + unreachable)
        return self._most > 0

    def poll(self) -> Poll:
        """Ask every GPU everything."""
        began = time.monotonic()
        if self._polls_with_loss >= REOPEN_POLLS:
            self.close()
            self.open()
            self._polls_with_loss = 0
        readings = tuple(reading for gpu in self._gpus if (reading := gpu.read()) is not None)
        lost = self._most - len(readings)
        self._polls_with_loss = self._polls_with_loss + 1 if lost else 0
        return Poll(time.time(), time.monotonic() - began, self._driver, readings, lost)

    def close(self) -> None:
        """Close NVML. It may be opened again."""
        for gpu in self._gpus:
            gpu.close()
        self._gpus = []
        if self._is_open:
            self._is_open = False
            with suppress(pynvml.NVMLError):
                pynvml.nvmlShutdown()


class _Gpu:
    """One GPU, while NVML is open."""

    def __init__(self, index: int) -> None:
        """Get hold of it; raises NVMLError where it cannot be had."""
        self._index = index
        self._handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        self._uuid = _told(pynvml.nvmlDeviceGetUUID, self._handle) or ""
        self._name = _told(pynvml.nvmlDeviceGetName, self._handle) or ""
        self._gpm = _told(Gpm, self._handle)
        self._questions: list[Question] = [*QUESTIONS, Pcie()]
        if self._gpm is not None:
            self._questions.append(self._gpm)

    def read(self) -> Reading | None:
        """Ask everything; None if the GPU is lost."""
        values: Answer = {}
        errors = set()
        for question in self._questions:
            try:
                answer = question(self._handle)
            except pynvml.NVMLError as error:
                if error.value == pynvml.NVML_ERROR_GPU_IS_LOST:
                    return None
                errors.add(error.value)
            else:
                for name, told in answer.items():
                    values.setdefault(name, []).extend(told)
        if not values and not errors <= _NOT_THERE:
            return None  # drivers may call it an unknown error too
        return Reading(self._index, self._uuid, self._name, values)

    def close(self) -> None:
        """Free what was allocated for it."""
        if self._gpm is not None:
            self._gpm.close()


def _told(ask: Callable[..., _T], *arguments: object) -> _T | None:
    """Return what NVML answers; None where it cannot, whatever the reason."""
    try:
        return ask(*arguments)
    except pynvml.NVMLError:
        return None
