"""No bytes of a server stall or crash the client: broken responses by their seeds, and the work that long ones cost."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import FIGURE, ROOT

sys.path.insert(0, str(ROOT / "scripts"))

from benchmarks import fuzz

INPUTS = 50_000
PARTS = 5

MOST_WORK = 2.5
"""Times the instructions, for twice the bytes."""


@pytest.mark.parametrize("part", range(PARTS))
def test_no_broken_response_is_an_error_of_ours_or_read_otherwise_lazily(
    part: int, record_property: Callable[[str, object], None]
) -> None:
    each = INPUTS // PARTS
    found = fuzz.run(range(part * each, (part + 1) * each))
    record_property(FIGURE, found.text)
    assert found.faults == []
    assert found.inputs == each


def test_twice_the_bytes_are_at_most_two_and_a_half_times_the_work(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    if shutil.which("valgrind") is None:
        pytest.skip("needs valgrind, which scripts/test installs")
    profile, counting = tmp_path / "profile", tmp_path / "counting"
    parts = ("--zero-before=getppid", "--dump-before=getpgrp", "--dump-line=no", f"--callgrind-out-file={profile}")
    command = ["valgrind", "--tool=callgrind", "--instr-atstart=no", *parts]  # to count imports, too, takes long
    program = [sys.executable, str(Path(__file__).with_name("work_of_decoding.py")), str(counting)]
    with subprocess.Popen([*command, *program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            pid = process.stdout.readline().strip()
            subprocess.run(["vgdb", "--max-invoke-ms=0", f"--pid={pid}", "instrumentation", "on"], check=True)
            counting.touch()
            said, errors = process.communicate()
        finally:
            process.kill()
    assert process.returncode == 0, errors
    shapes = [(int(length), name) for length, name in (line.split(" ", 1) for line in said.splitlines())]
    counted: dict[str, list[tuple[int, int]]] = {}
    for number, (length, name) in enumerate(shapes, start=1):
        part = profile.with_name(f"profile.{number}").read_text()
        (instructions,) = re.findall(r"^summary: (\d+)", part, re.MULTILINE)
        counted.setdefault(name, []).append((length, int(instructions)))
    ratios = {}
    for name, ((short, once), (long, twice)) in counted.items():
        assert 1.8 < long / short < 2.1, name
        ratios[name] = twice / once
    worst = max(ratios, key=lambda name: ratios[name])
    record_property(FIGURE, f"work for twice the bytes, {len(ratios)} shapes: at most x {ratios[worst]:.2f} ({worst})")
    assert {name: ratio for name, ratio in ratios.items() if ratio > MOST_WORK} == {}
