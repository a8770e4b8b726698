"""``loadgen matrix`` on engines that run for real: measured, killed, resumed and tabled."""

import os
import random
import signal
import time
from pathlib import Path

import msgspec
from launching import SIMULATED, Home, engine_file, running_command, wait_for

TINY = """\
engines = ["llamacpp", "transformers"]
models = ["tiny-a", "tiny-b"]
dataset = "samples"
sample = 30
max_tokens = 4
warmup = 2
weights = "random"

[throughput]
steps = "2"
step_time = 2

[model.tiny-a]
dtype = "float32"

[model.tiny-a.shape]
num_hidden_layers = 2
hidden_size = 64
num_attention_heads = 2
num_key_value_heads = 2
intermediate_size = 128
vocab_size = 512
context = 2048

[model.tiny-b]
dtype = "float32"
template = "vicuna_v1.1"

[model.tiny-b.shape]
num_hidden_layers = 3
hidden_size = 96
num_attention_heads = 3
num_key_value_heads = 3
intermediate_size = 192
vocab_size = 768
context = 2048
"""

ONE = """\
engines = ["./mine.py"]
models = ["tiny-llama"]
dataset = "samples"
sample = 30
max_tokens = 8
warmup = 2
measure = ["speed"]
"""


def write(home: Home, text: str) -> str:
    """Write a matrix; return its name."""
    (home.folder / "matrix.toml").write_text(text)
    return "matrix.toml"


def folder_of(home: Home) -> Path:
    """The one matrix."""
    (folder,) = (home.folder / "results").glob("matrix-*")
    return folder


def whole_runs(folder: Path) -> list[Path]:
    """Run folders that count, whatever became of them."""
    runs = [path.parent for path in folder.glob("cells/*/*/repeat-*/*/*/run.json")]
    ended = [run for run in runs if msgspec.json.decode((run / "run.json").read_bytes())["ended"] is not None]
    return sorted(
        run for run in ended if msgspec.json.decode((run / "run.json").read_bytes())["ended"]["reason"] != "interrupted"
    )


def test_a_matrix_killed_at_three_cells_and_resumed_ends_in_the_two_tables(home: Home) -> None:
    draw = random.Random(os.environ.get("PYTEST_XDIST_TESTRUNUID", "5"))
    kills = sorted(draw.sample(range(11), 3))  # after so many of its 12 runs have begun
    arguments: tuple[object, ...] = ("matrix", write(home, TINY))
    done: set[Path] = set()
    for begun in kills:
        process = home.start(*arguments)
        wait_for(lambda at=begun: len(home.found("results/*/cells/*/*/*/*/*/records*.jsonl")) > at, 600)
        process.kill()
        process.wait()
        assert done <= set(whole_runs(folder_of(home)))
        done = set(whole_runs(folder_of(home)))
        arguments = ("matrix", "--resume")
    last = home.loadgen(*arguments, timeout=400)
    folder = folder_of(home)
    home.assert_ended_well(last)
    assert home.processes() == []
    assert home.engines() == []
    parts = sorted(path.parent.relative_to(folder / "cells") for path in whole_runs(folder))
    assert len(parts) == len(set(parts)) == 2 * 2 * 3  # each part once: none is missing, none was measured again
    assert done <= set(whole_runs(folder))
    page = (folder / "matrix.md").read_text()
    for words in ("Speed, output tokens/s of one user", "Throughput, requests/min", "| tiny-a |", "| tiny-b |"):
        assert words in page
    assert "random weights" in page.splitlines()[0]
    assert "Transformers 5.23.0" in last.stdout
    assert "the same prompt tokens on all engines" in page.lower()
    again = home.loadgen("matrix", "--resume", folder)  # nothing is left to do
    assert again.returncode == last.returncode
    assert sorted(path.parent.relative_to(folder / "cells") for path in whole_runs(folder)) == parts


def test_a_cell_that_fails_is_told_and_the_others_go_on(home: Home) -> None:
    engine_file(home.folder)
    (home.folder / "dying.py").write_text(
        SIMULATED.replace('"mine"', '"dying"').replace('"--until-killed"]', '"--until-killed", "--no-such-flag"]')
    )
    text = ONE.replace('["./mine.py"]', '["./dying.py", "./mine.py"]')
    done = home.loadgen("matrix", write(home, text))
    assert done.returncode == 3, done.stderr
    assert "FAILED" in done.stderr
    assert "unrecognized arguments: --no-such-flag" in done.stderr
    page = (folder_of(home) / "matrix.md").read_text()
    assert "failed" in page
    assert "Mine 1.0 ended with status 2 while it started" in page
    assert len(whole_runs(folder_of(home))) == 2
    # What was wrong is put right: only what failed is measured.
    (home.folder / "dying.py").write_text(SIMULATED.replace('"mine"', '"dying"'))
    resumed = home.loadgen("matrix", "--resume")
    home.assert_ended_well(resumed)
    assert len(whole_runs(folder_of(home))) == 4


def test_an_engine_that_dies_in_mid_run_is_a_failed_cell_with_its_last_words(home: Home) -> None:
    lines = (
        "import os, sys, threading; threading.Timer(4, lambda: (print('Xid 79', flush=True), os._exit(9))).start(); "
    )
    script = (
        lines
        + "import runpy; sys.argv = sys.argv[:1] + sys.argv[3:]; "
        + "runpy.run_module('loadgen.engines.simulated', run_name='__main__')"
    )
    engine_file(home.folder, **{'["{bin}/python", ': f'["{{bin}}/python", "-c", {script!r}, ', '"5"': '"200"'})
    done = home.loadgen("matrix", write(home, ONE))
    assert done.returncode == 3, done.stderr
    assert "the engine ended with status 9 during speed: Xid 79" in done.stderr
    assert whole_runs(folder_of(home)) == []  # what it left does not count, and is measured again
    assert "failed" in (folder_of(home) / "matrix.md").read_text()
    engine_file(home.folder)
    resumed = home.loadgen("matrix", "--resume")
    home.assert_ended_well(resumed)
    assert len(whole_runs(folder_of(home))) == 2


def test_an_interrupted_matrix_leaves_no_process_and_says_how_to_go_on(home: Home) -> None:
    engine_file(home.folder, **{'"5"': '"70"'})
    arguments: tuple[object, ...] = ("matrix", write(home, ONE))
    for number in (signal.SIGINT, signal.SIGTERM):
        process = home.start(*arguments)
        wait_for(lambda: any(path.stat().st_size for path in home.found("results/*/cells/*/*/*/*/*/records-0.jsonl")))
        process.send_signal(number)
        assert process.wait(timeout=60) == 4
        assert home.processes() == []
        said = (home.folder / "loadgen.log").read_text()
        (home.folder / "loadgen.log").unlink()
        assert f"loadgen matrix --resume {folder_of(home)}" in said
        assert "Traceback" not in said
        arguments = ("matrix", "--resume", folder_of(home))
    resumed = home.loadgen(*arguments)
    home.assert_ended_well(resumed)
    assert len(whole_runs(folder_of(home))) == 2
    assert len(list(folder_of(home).glob("cells/*/*/*/broken-off/*/*"))) <= 2


def test_a_second_interrupt_leaves_no_process_either(home: Home) -> None:
    engine_file(home.folder, **{'"5"': '"3000"'})
    process = home.start("matrix", write(home, ONE))
    wait_for(lambda: any("locust" in line for line in home.processes()))
    wait_for(lambda: any(home.found("results/*/cells/*/*/*/*/*/run.json")))
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
    assert process.wait(timeout=60) == 4
    assert home.processes() == []
    assert home.engines() == []


def test_interrupts_without_end_leave_the_tables_and_the_exit_status(home: Home) -> None:
    engine_file(home.folder, **{'"5"': '"3000"'})
    process = home.start("matrix", write(home, ONE))
    wait_for(lambda: any(home.found("results/*/cells/*/*/*/*/*/run.json")))
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
        time.sleep(0.02)
    assert process.returncode == 4
    assert "Traceback" not in (home.folder / "loadgen.log").read_text()
    assert (folder_of(home) / "matrix.md").exists()
    assert home.processes() == []
    assert home.engines() == []


def test_repeats_restart_the_engine_and_show_the_spread_between_runs(home: Home) -> None:
    engine_file(home.folder)
    done = home.loadgen("matrix", write(home, ONE), "--repeats", "2")
    home.assert_ended_well(done)
    assert done.stderr.count("starting Mine 1.0") == 2
    assert len(whole_runs(folder_of(home))) == 4
    assert "2 runs" in (folder_of(home) / "matrix.md").read_text()


def test_two_matrices_at_once_are_refused(home: Home) -> None:
    engine_file(home.folder, **{'"5"': '"500"'})
    name = write(home, ONE)
    first = home.start("matrix", name)
    wait_for(lambda: any("loadgen.engines.simulated" in line for line in home.processes()))
    second = home.loadgen("matrix", name)
    assert second.returncode == 2
    assert "the CPU is in use by loadgen matrix matrix-" in second.stderr
    up = home.loadgen("engine", "up", "./mine.py", "--model", "tiny-llama")
    assert up.returncode == 2
    assert "the CPU is in use by loadgen matrix" in up.stderr
    resumed = home.loadgen("matrix", "--resume", folder_of(home))  # the refused one left none
    assert resumed.returncode == 2
    assert "is being measured by loadgen matrix" in resumed.stderr
    first.send_signal(signal.SIGINT)
    assert first.wait(timeout=60) == 4


def test_a_matrix_does_not_measure_beside_an_engine_that_is_up(home: Home) -> None:
    engine_file(home.folder)
    assert home.loadgen("engine", "up", "./mine.py", "--model", "tiny-llama").returncode == 0
    done = home.loadgen("matrix", write(home, ONE))
    assert done.returncode == 2
    assert "mine runs on the CPU: stop it first, loadgen engine down mine-" in done.stderr


def test_an_endpoint_that_runs_already_is_a_column(home: Home) -> None:
    engine_file(home.folder)
    home.more = {"MY_KEY": "sk-secret"}
    home.loadgen("engine", "up", "./mine.py", "--model", "tiny-llama")
    (running,) = home.engines()
    text = ONE.replace("./mine.py", "elsewhere").replace("tiny-llama", "as-they-call-it")
    text += '[model.as-they-call-it]\nsource = "me/mine"\n[engine.elsewhere]\nengine = "endpoint"\n'
    text += f'host = "{running.host}"\ntitle = "Elsewhere"\nmodel = "tiny-llama"\nkey = "MY_KEY"\n'
    done = home.loadgen("matrix", write(home, text))
    home.assert_ended_well(done)
    assert "Elsewhere" in done.stdout
    assert "answered by" not in done.stdout
    (home.folder / "matrix.toml").write_text(text.replace('model = "tiny-llama"\n', ""))
    other = home.loadgen("matrix", "matrix.toml", "--results", "other")
    (page,) = home.folder.glob("other/matrix-*/matrix.md")
    home.assert_ended_well(other, "other")
    assert "answered by tiny-llama" in page.read_text().splitlines()[0]
    for path in folder_of(home).rglob("*"):
        assert not path.is_file() or b"sk-secret" not in path.read_bytes()


def test_an_engine_that_cannot_run_here_is_a_failed_cell(home: Home) -> None:
    running_command(home.folder, "/nowhere/serve")
    done = home.loadgen("matrix", write(home, ONE))
    assert done.returncode == 3
    assert "/nowhere/serve cannot be started" in done.stderr
