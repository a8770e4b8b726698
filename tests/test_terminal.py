"""The report on a terminal: broken between words and columns at any width, in any encoding, and whole in a pipe."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, clean_environment
from rich.cells import cell_len
from support.summaries import closed_loop, step, verdict
from support.terminal import Shown, on_terminal

from loadgen.measure.check import CheckResult, Status
from loadgen.results.terminal import show
from loadgen.terminal_text import columns, wrapped

REPORT = (sys.executable, "-m", "loadgen.cli", "report")
KINDS = ("speed", "sweep", "rate")
RULE = {"\N{BOX DRAWINGS LIGHT HORIZONTAL}", "-"}


@pytest.fixture(params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A run's folder, at a path that is longer than a line."""
    copy = tmp_path / ("long-" * 24 + "name") / str(request.param)
    shutil.copytree(ROOT / "tests" / "kept" / str(request.param), copy)
    return copy


def in_a_pipe(folder: Path, **environment: str) -> "subprocess.CompletedProcess[bytes]":
    variables = clean_environment(**environment)
    return subprocess.run([*REPORT, str(folder)], env=variables, capture_output=True, check=False)


def on_a_terminal(folder: Path, width: int, **environment: str) -> Shown:
    variables = clean_environment(**environment)
    return on_terminal([*REPORT, str(folder)], columns=width, cwd=folder, environment=variables)


def words(text: str) -> set[str]:
    """The words and figures of a text, without the lines of tables."""
    return {word for word in text.split() if not set(word) <= RULE}


@pytest.mark.parametrize("width", [48, 80, 120])
def test_no_line_is_wider_than_the_terminal_and_no_word_or_figure_is_broken(folder: Path, width: int) -> None:
    shown = on_a_terminal(folder, width)
    too_wide = [line for line in shown.lines if cell_len(line) > width]
    assert too_wide == [f"Results: {folder}"]
    assert words(shown.text) == words(in_a_pipe(folder).stdout.decode())


@pytest.mark.parametrize("width", [80, 120])
def test_further_lines_of_a_text_are_indented_under_it(folder: Path, width: int) -> None:
    lines = on_a_terminal(folder, width).lines
    objections = next(i for i, line in enumerate(lines) if line.startswith("WARN  "))
    assert all(line.startswith("  ") for line in lines[objections + 1 :] if line and not line.startswith("Results:"))


def test_in_a_pipe_each_message_is_on_one_line(folder: Path) -> None:
    lines = in_a_pipe(folder).stdout.decode().splitlines()
    (line,) = [line for line in lines if "times known exactly:" in line]
    assert line.endswith((".", "?"))
    assert f"Results: {folder}" in lines


def test_the_report_begins_with_its_subject_and_the_main_figure_with_its_verdict(folder: Path) -> None:
    title, _, figure, of, *_ = in_a_pipe(folder).stdout.decode().splitlines()
    assert title.startswith("simulated on simulated, prompts: ")
    assert figure.strip().endswith(("tokens/s   WARN", "requests/min   WARN"))
    assert "95 % interval" in of


ENCODINGS: dict[str, dict[str, str]] = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "cp1252": {"PYTHONIOENCODING": "cp1252"},
    "utf-8": {"PYTHONIOENCODING": "utf-8"},
    "C": {"LC_ALL": "C"},
    "C without UTF-8": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}


@pytest.mark.parametrize("name", ENCODINGS)
def test_every_encoding_shows_the_whole_report_in_aligned_tables(folder: Path, name: str) -> None:
    done = in_a_pipe(folder, **ENCODINGS[name])
    utf8 = in_a_pipe(folder, PYTHONIOENCODING="utf-8")
    assert (done.returncode, done.stderr) == (utf8.returncode, b"")
    text = done.stdout.decode("cp1252" if name == "cp1252" else "utf-8" if name in {"utf-8", "C"} else "latin-1")
    dashes = str.maketrans("\N{EN DASH}\N{BOX DRAWINGS LIGHT HORIZONTAL}", "--")
    assert text.translate(dashes) == utf8.stdout.decode().translate(dashes)


def test_names_in_other_scripts_are_shown_or_written_as_escapes_and_keep_columns_aligned(folder: Path) -> None:
    manifest = folder / "run.json"
    manifest.write_text(manifest.read_text().replace('"model": "simulated"', '"model": "\u6a21\u578b"'))
    for encoding, model in (("ascii", "\\u6a21\\u578b"), ("cp1252", "\\u6a21\\u578b"), ("utf-8", "\u6a21\u578b")):
        done = in_a_pipe(folder, PYTHONIOENCODING=encoding)
        assert done.stderr == b""
        lines = done.stdout.decode(encoding).splitlines()
        assert lines[0].startswith(f"{model} on simulated")
        for row in (i for i, line in enumerate(lines) if line.startswith(f"  {model} ")):
            rule = next(line for line in reversed(lines[:row]) if line and set(line.strip()) <= RULE)
            assert cell_len(lines[row]) <= cell_len(rule.rstrip()) + 1


def test_objections_come_first_the_worst_before_others_and_passed_checks_are_counted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def check(name: str, status: Status, **more: Any) -> CheckResult:
        return CheckResult(name=name, status=status, value=f"value of {name}", limit="a limit", **more)

    checks = [
        check("fine", Status.OK),
        check("doubtful", Status.WARN, effect="It may read 3 % low.", advice="Do `this or that`."),
        check("wrong", Status.INVALID, effect="There is no figure.", advice="Do it again."),
        check("unseen", Status.NOT_CHECKED),
        check("good", Status.OK),
    ]
    found = verdict("INVALID")
    found.checks[:] = checks
    show(closed_loop(step(0, 1), verdict=found))
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3:] == [
        "  INVALID wrong: value of wrong (limit: a limit). There is no figure. Do it again.",
        "  WARN doubtful: value of doubtful (limit: a limit). It may read 3 % low. Do `this or that`.",
        "  2 checks passed, 1 not checked.",
    ]


def test_text_is_broken_between_words_but_neither_in_paths_nor_in_commands() -> None:
    path = "/a/path/that/is/longer/than/the/line"
    text = f"  check: see {path}, then run `loadgen report results/x` again and again"
    assert wrapped(text, 30, 4).split("\n") == [
        "  check: see",
        f"    {path},",
        "    then run",
        "    `loadgen report results/x`",
        "    again and again",
    ]
    assert wrapped(text, 200, 4) == text


def test_wide_characters_take_two_columns() -> None:
    assert columns("\u6a21\u578b") == 4
    assert columns("e\u0301") == 1
    assert wrapped("\u6a21\u578b \u6a21\u578b", 8, 0) == "\u6a21\u578b\n\u6a21\u578b"
