"""What the locust command shows: when its run will end, then our result first, and never exit status 0 without it."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import Starter
from conftest import CHAT, Finished, Locust, clean_environment, free_port
from serving import ScriptServer, answer, response, serving
from support.locust_process import LOCUST, run_to_end

FEW = ("--sample", "4", "--warmup", "1", "--max-tokens", "8")
TITLE = "scripted on endpoint, prompts: the project's own samples"
TABLES = "Response time percentiles (approximated)"


@pytest.fixture
def server() -> Iterator[ScriptServer]:
    with serving(answer(3)) as started:
        yield started


def test_our_result_is_all_that_standard_output_has_and_locusts_tables_are_left_out(
    locust: Locust, server: ScriptServer
) -> None:
    done = locust("--host", server.url, *FEW)
    done.assert_ended_well()
    assert done.out.splitlines()[0] == TITLE
    assert TABLES not in done.out + done.err
    assert "Aggregated" not in done.out + done.err


@pytest.mark.parametrize("more", [(), ("--only-summary",)])
def test_with_print_stats_locusts_tables_follow_our_result(
    start: Starter, server: ScriptServer, more: tuple[str, ...]
) -> None:
    run = start("--headless", "--host", server.url, *FEW, "--print-stats", *more)
    run.wait()
    assert run.said.count(TABLES) == 1
    assert run.said.index(TITLE) < run.said.index("Results: ") < run.said.index(TABLES)


def test_locusts_files_are_written_without_its_tables(locust: Locust, server: ScriptServer, tmp_path: Path) -> None:
    files = ("--csv", "numbers", "--html", "page.html", "--json-file", "numbers")
    done = locust("--host", server.url, *FEW, "--only-summary", *files)
    done.assert_ended_well()
    assert done.out.splitlines()[0] == TITLE
    assert TABLES not in done.err
    for name in ("numbers_stats.csv", "page.html", "numbers.json"):
        assert "ask" in (tmp_path / name).read_text()


def test_runs_of_several_processes_and_of_the_web_ui_show_the_same(start: Starter, server: ScriptServer) -> None:
    forked = start.forked(server.url, *FEW, "--users", "2", name="forked")
    quitting = ("--autostart", "--autoquit", "0", "--web-host", "127.0.0.1", "--web-port", str(free_port()))
    in_web_ui = start("--host", server.url, *FEW, *quitting, name="web")
    for run in (forked, in_web_ui):
        run.wait()
        assert run.said.count(TITLE) == 1
        assert TABLES not in run.said
        assert run.said.count("The run ends after 4 requests (as many as the sample has prompts).") == 1


def test_the_log_says_when_the_run_ends_and_never_that_only_ctrl_c_ends_it(
    locust: Locust, server: ScriptServer
) -> None:
    done = locust("--host", server.url, *FEW, "--requests", "5")
    assert len(re.findall(r"The run ends after 5 requests \(--requests\)\.$", done.err, re.MULTILINE)) == 1
    assert "No run time limit" not in done.err


def ended_with(code: str, server: ScriptServer, folder: Path) -> Finished:
    """A run whose locustfile does something to standard output."""
    locustfile = folder / "changed.py"
    locustfile.write_text(CHAT.read_text() + code)
    command = [*LOCUST, "-f", str(locustfile), "--headless", "--host", server.url, *FEW]
    done = run_to_end(command, cwd=folder, env=clean_environment(), capture_output=True, text=True, timeout=60)
    return Finished(done.returncode, done.stdout, done.stderr, results=folder / "results")


BROKEN = """

import io, sys

class Broken(io.TextIOWrapper):
    def write(self, text):
        raise RuntimeError("no ink")

sys.stdout = Broken(sys.stdout.buffer)
"""
CLOSED = """

import sys

sys.stdout.close()
"""


@pytest.mark.parametrize(
    ("code", "status", "why"), [(BROKEN, 1, "RuntimeError: no ink"), (CLOSED, 4, "standard output is closed")]
)
def test_any_error_while_the_verdict_is_printed_names_the_results_and_is_no_exit_status_0(
    code: str, status: int, why: str, server: ScriptServer, tmp_path: Path
) -> None:
    done = ended_with(code, server, tmp_path)
    assert done.status == status, done.err
    (sentence,) = [line for line in done.err.splitlines() if line.startswith("loadgen: ")]
    assert why in sentence
    assert str(done.folder.relative_to(tmp_path)) in sentence
    assert ("Traceback" in done.err) == (status == 1)


def test_without_a_standard_output_there_is_no_exit_status_0(server: ScriptServer, tmp_path: Path) -> None:
    command = ["sh", "-c", 'exec "$@" >&-', "sh", *LOCUST, "-f", str(CHAT), "--headless", "--host", server.url, *FEW]
    done = subprocess.run(
        command, cwd=tmp_path, env=clean_environment(), stderr=subprocess.PIPE, text=True, check=False, timeout=60
    )
    assert done.returncode == 4, done.stderr
    assert "standard output is closed" in done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_a_model_of_another_script_is_shown_in_every_encoding(encoding: str, tmp_path: Path) -> None:
    models = '{"object":"list","data":[{"id":"\u6a21\u578b","object":"model"}]}'.encode()
    with serving(answer(3), models=response(models)) as server:
        command = [*LOCUST, "-f", str(CHAT), "--headless", "--host", server.url, *FEW]
        variables = clean_environment(PYTHONIOENCODING=encoding)
        done = run_to_end(command, cwd=tmp_path, env=variables, capture_output=True, timeout=60)
    finished = Finished(
        done.returncode, done.stdout.decode(encoding), done.stderr.decode(encoding), results=tmp_path / "results"
    )
    finished.assert_ended_well()
    assert finished.manifest["model"] == "\u6a21\u578b"
    shown = "\u6a21\u578b" if encoding == "utf-8" else "\\u6a21\\u578b"
    assert finished.out.startswith(f"{shown} on endpoint")
    assert finished.out.rstrip().endswith(finished.folder.name)
