"""Systems that lack what the reader uses: it is found out, stated, and runs are right all the same."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from conftest import CHAT, Finished, clean_environment
from serving import answer, serving

from loadgen.record import Outcome
from loadgen.wire.capability import capability

FEW = ("--headless", "--users", "4", "--requests", "24", "--sample", "12", "--warmup", "2", "--max-tokens", "8")
RUN = "from locust.main import main; main()"

NO_STAMPS = """
import loadgen.wire.connection as connection
connection.SO_TIMESTAMPNS = 9  # SO_KEEPALIVE: an option that is taken, and stamps nothing
"""
NO_MARK = """
import _socket
_socket.SO_RCVLOWAT = _socket.SO_KEEPALIVE
"""
NO_EPOLL = """
import select
del select.epoll
"""
NO_TIMERFD = """
import ctypes
original = ctypes.CDLL
class Without:
    def __init__(self, name, **options):
        self._all = original(name, **options)
    def __getattr__(self, name):
        if name.startswith("timerfd"):
            raise AttributeError(name)
        return getattr(self._all, name)
ctypes.CDLL = Without
"""
NO_PROC = """
import pathlib
read_text = pathlib.Path.read_text
def without(self, *arguments, **options):
    if str(self).startswith("/proc"):
        raise FileNotFoundError(2, "No such file or directory", str(self))
    return read_text(self, *arguments, **options)
pathlib.Path.read_text = without
"""


def test_this_system_stamps_reads_and_holds_them_back() -> None:
    assert (capability().stamps, capability().low_water) == (True, True)


@pytest.mark.parametrize(
    ("taken_away", "lacks"),
    [
        (NO_STAMPS, ["receive times of the kernel: those of user space are used"]),
        (NO_MARK, ["reads that are held back: all streams are read token by token"]),
        (NO_EPOLL, []),
        (NO_TIMERFD, []),
        (NO_PROC, []),
    ],
    ids=["no stamps", "no low-water mark", "no epoll", "no timerfd", "no /proc"],
)
def test_without_it_a_run_is_right_and_says_what_is_missing(
    tmp_path: Path, taken_away: str, lacks: Sequence[str]
) -> None:
    results = tmp_path / "results"
    with serving(answer(6, pause=0.02)) as server:
        more = ("--results", str(results), "--itl-sample", "0", "--host", server.url)
        command = [sys.executable, "-c", taken_away + RUN, "-f", str(CHAT), *FEW, *more]
        ended = subprocess.run(
            command, cwd=tmp_path, env=clean_environment(), capture_output=True, text=True, check=False
        )
    done = Finished(ended.returncode, ended.stdout, ended.stderr, results=results)
    done.assert_ended_well()
    records = done.records
    assert {(r.outcome, r.output_tokens) for r in records} == {(Outcome.OK, 6)}
    assert done.summary["instrument"]["lacks"] == lacks
    page = (done.folder / "report.md").read_text()
    assert all(lack in page for lack in lacks)
    assert {r.stamp for r in records} == ({"user"} if taken_away is NO_STAMPS else {"kernel"})
    assert any(r.lazy for r in records) is (taken_away is not NO_MARK)


def test_on_windows_the_import_says_what_to_use() -> None:
    program = "import sys; sys.platform = 'win32'; import loadgen.wire"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "run it in WSL2" in done.stderr
