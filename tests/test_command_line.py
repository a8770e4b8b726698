"""The command line of runs: ``loadgen run``, help, suggestions, and Locust's options for scripts."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from conftest import CHAT, LOCUST, ROOT, Finished, clean_environment, free_port, records_of
from serving import Request, ScriptServer, Step, answer, response, serving

from loadgen.cli import main
from loadgen.launch.locustfiles import find_locustfile, shipped

FEW = ("--sample", "4", "--warmup", "1", "--max-tokens", "8")
GROUPS = (
    "Endpoint",
    "Workload",
    "Requests",
    "Measurement",
    "Time-outs",
    "Sweep (sweep.py)",
    "Open loop (rate.py)",
    "Results and monitoring",
)


def start_run(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    """Start ``loadgen run`` in a folder."""
    return subprocess.Popen(
        [sys.executable, "-m", "loadgen.cli", "run", *arguments],
        cwd=folder,
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(folder: Path, *arguments: str) -> Finished:
    """Run ``loadgen run`` in a folder, to its end."""
    with start_run(folder, *arguments) as process:
        try:
            out, err = process.communicate(timeout=300)
        except BaseException:
            process.kill()
            raise
    return Finished(process.returncode, out, err, results=folder / "results")


@pytest.fixture
def server() -> Iterator[ScriptServer]:
    with serving(answer(3)) as started:
        yield started


def test_help_lists_our_options_in_groups_with_their_defaults(tmp_path: Path) -> None:
    done = run(tmp_path, "chat", "--help")
    command = [*LOCUST, "-f", str(CHAT), "-h"]
    as_locust = subprocess.run(
        command, cwd=tmp_path, env=clean_environment(), capture_output=True, text=True, check=True
    )
    assert (done.status, done.err) == (0, "")
    assert done.out == as_locust.stdout
    places = [done.out.index(f"\n{group}:\n") for group in GROUPS]
    assert places == sorted(places)
    text = " ".join(done.out.split())
    assert "--max-tokens <tokens> maximum length of an answer, in tokens (default: 512)" in text
    assert "--temperature <float> sampling temperature (default: 0)" in text
    assert "--precision <share>" in text
    assert "(default: 2%)" in text


def test_the_locustfiles_of_the_package_are_those_of_the_repository() -> None:
    assert [path.samefile(ROOT / "locustfiles" / f"{name}.py") for name, path in shipped().items()] == [True] * 3
    code = f"from setuptools import find_namespace_packages as f; print(*f({str(ROOT)!r}, include=['loadgen*']))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "loadgen.locustfiles" in found.stdout.split()


def test_a_locustfile_that_does_not_exist_is_a_mistake_of_the_user(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "caht", "--headless"]) == 2
    assert "run caht: there is no such locustfile; give chat, rate, sweep, or the path" in capsys.readouterr().err
    assert main(["run", "missing.py"]) == 2
    with pytest.raises(SystemExit, match="2"):
        main(["run"])
    assert "usage: loadgen run chat|rate|sweep|FILE [options of Locust and loadgen]" in capsys.readouterr().err


def test_a_locustfile_is_named_as_locust_names_it_or_by_its_name_in_the_package(tmp_path: Path) -> None:
    (tmp_path / "mine.py").touch()
    mine = str(tmp_path / "mine.py")
    assert find_locustfile(mine) == mine
    assert find_locustfile(str(tmp_path)) == str(tmp_path)
    assert find_locustfile("https://example.com/mine.py") == "https://example.com/mine.py"
    assert find_locustfile(f"sweep, {mine}") == f"{shipped()['sweep']},{mine}"


def test_a_mistyped_option_gets_a_suggestion(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = run(tmp_path, "chat", "--headless", "--datset=/a/file/with/a/long/name.jsonl")
    assert done.status == 2
    unknown = "--datset=/a/file/with/a/long/name.jsonl"
    assert done.err == f"locust: error: unrecognized arguments: {unknown}; did you mean --dataset?\n"
    for words in ("report somewhere --besde=x", "engine up vllm --model m --wieghts random"):
        with pytest.raises(SystemExit, match="2"):
            main(words.split())
    err = capsys.readouterr().err
    assert "loadgen report: error: unrecognized arguments: --besde=x; did you mean --beside?" in err
    assert "loadgen engine up: error: unrecognized arguments: --wieghts random; did you mean --weights?" in err


def test_with_json_standard_output_has_nothing_else(tmp_path: Path, server: ScriptServer) -> None:
    done = run(
        tmp_path, "chat", "--headless", "--host", server.url, *FEW[:4], "--max-tokens", "7", "--json", "--skip-log"
    )
    done.assert_ended_well()
    rows = {row["name"]: row["num_requests"] for row in json.loads(done.out)}
    assert rows["ask"] == 4
    assert re.search(r"^(VALID|WARN|INVALID)  4 completed, 0 failed", done.err, re.MULTILINE)
    assert "TTFT" in done.err
    assert done.manifest["scenario"]["max_tokens"] == 7  # of an option that was abbreviated


def test_a_run_of_ones_own_file_is_interrupted_by_ctrl_c(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(CHAT.read_text())
    with serving(answer(4, pause=0.05)) as server:
        process = start_run(tmp_path, "mine.py", "--headless", "--host", server.url)
        try:
            while not (found := list((tmp_path / "results").glob("*"))) or len(records_of(found[0])) < 7:
                time.sleep(0.02)
                assert process.poll() is None
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
        finally:
            process.kill()
            process.wait()
    assert process.returncode == 4


def test_autoquit_ends_the_process_after_a_run_that_ended_by_itself(tmp_path: Path, server: ScriptServer) -> None:
    arguments = ("--host", server.url, *FEW, "--web-port", str(free_port()))
    done = run(tmp_path, "chat", "--autostart", "--autoquit", "1", *arguments)
    done.assert_ended_well()
    assert done.manifest["ended"]["reason"] == "completed"
    assert done.summary["requests"]["completed"] == 4
    assert "--autoquit: 1 s have passed since the end of the run" in done.err


def failing(numbers: Sequence[int]) -> Iterator[ScriptServer]:
    def script(number: int, _request: Request) -> Sequence[Step]:
        return [(0.0, response(b"{}", status="500 Oops"))] if number in numbers else answer(3)

    with serving(script) as server:
        yield server


@pytest.fixture
def failing_once() -> Iterator[ScriptServer]:
    yield from failing([20])


@pytest.fixture
def failing_often() -> Iterator[ScriptServer]:
    yield from failing(range(20, 40))


def test_exit_code_on_error_is_the_status_of_a_usable_run_with_failed_requests(
    tmp_path: Path, failing_once: ScriptServer
) -> None:
    arguments = ("--headless", "--sample", "60", "--warmup", "0", "--host", failing_once.url)
    done = run(tmp_path, "chat", *arguments, "--exit-code-on-error", "7")
    assert done.summary["requests"]["failed"] == 1
    assert done.status == (7 if done.summary["verdict"]["status"] == "WARN" else 3)


def test_exit_code_on_error_does_not_hide_a_run_that_cannot_be_used(
    tmp_path: Path, failing_often: ScriptServer
) -> None:
    arguments = ("--headless", "--sample", "60", "--warmup", "0", "--host", failing_often.url)
    done = run(tmp_path, "chat", *arguments, "--exit-code-on-error", "7")
    assert done.summary["verdict"]["status"] == "INVALID"
    assert done.status == 3
