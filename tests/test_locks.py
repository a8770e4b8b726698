"""Locks between processes: one that is held is an error, or waited for."""

import threading
from pathlib import Path

import pytest

from loadgen.errors import EngineError
from loadgen.launch.locks import locked


def test_a_lock_that_is_held_is_an_error_that_names_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with (
        locked(path, "it is in use by {}", "a test"),
        pytest.raises(EngineError, match=r"in use by a test \(pid \d+\)"),
        locked(path, "it is in use by {}", "another"),
    ):
        pass


def test_a_lock_is_waited_for_after_saying_so(tmp_path: Path) -> None:
    path, messages = tmp_path / "lock", []
    told, entered = threading.Event(), threading.Event()

    def wait(message: str) -> None:
        messages.append(message)
        told.set()

    def second() -> None:
        with locked(path, "waiting for {}", "installing", wait):
            entered.set()

    with locked(path, "waiting for {}", "installing", wait):
        thread = threading.Thread(target=second)
        thread.start()
        assert told.wait(60)
        assert not entered.is_set()
    thread.join(60)
    assert entered.is_set()
    assert len(messages) == 1
    assert messages[0].startswith("waiting for installing (pid ")
