"""``loadgen engine``: real engines, started and taken away again, and what is said where that cannot be."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from conftest import CHAT, Left, free_port
from launching import Home, engine_file, running_command, wait_for
from support.locust_process import LOCUST, run_to_end

from loadgen.engines.catalogue import ENGINES


def measured(home: Home, *arguments: str) -> Left:
    """A run against the one engine that is up."""
    (running,) = home.engines()
    results = home.folder / "results"
    command = [*LOCUST, "-f", str(CHAT), "--headless", "--users", "1", "--host", running.host, *arguments]
    command += ["--sample", "40", "--max-tokens", "8", "--results", str(results)]
    done = run_to_end(command, cwd=home.folder, env=home.environment, capture_output=True, text=True)
    home.assert_ended_well(done)
    return Left(results=results)


@pytest.mark.parametrize("engine", ["llamacpp", "transformers"])
def test_an_engine_is_started_measured_and_stopped(home: Home, engine: str) -> None:
    up = home.loadgen("engine", "up", engine, "--model", "tiny-llama", "--weights", "random")
    assert up.returncode == 0, up.stderr
    (running,) = home.engines()
    assert running.host in up.stdout
    assert f"loadgen engine down {running.id}" in up.stdout
    listed = home.loadgen("engine", "list").stdout
    assert running.id in listed
    assert running.host in listed
    left = measured(home)
    launched = left.manifest["launched"]
    assert launched["engine"] == engine
    assert (launched["model"], launched["weights"], launched["dtype"]) == ("tiny-llama", "random", "float32")
    assert " ".join(launched["commands"][0]) in up.stderr
    assert launched["packages"]
    assert launched["startup_s"] > 0
    assert left.summary["model"] == "tiny-llama"
    assert left.summary["engine"] == engine
    assert left.summary["tokens"]["output"] == 40 * 8
    title = (left.folder / "report.md").read_text().splitlines()[0]
    assert title == f"# tiny-llama on {engine}, prompts: the project's own samples (random weights)"
    assert "started as" in (left.folder / "report.html").read_text()
    assert home.loadgen("engine", "logs", engine).stdout.strip()
    down = home.loadgen("engine", "down", engine)
    assert down.returncode == 0
    assert home.processes() == []
    assert home.engines() == []
    assert home.loadgen("engine", "logs", engine).stdout.strip()  # its log stays


def test_the_launch_command_can_be_repeated_by_hand(home: Home) -> None:
    up = home.loadgen("engine", "up", "llamacpp", "--model", "tiny-llama", "--weights", "random", "--port", free_port())
    (line,) = [line for line in up.stderr.splitlines() if "starting llama.cpp: " in line]
    home.loadgen("engine", "down")
    command = f"exec {line.partition('starting llama.cpp: ')[2]}"
    by_hand = subprocess.Popen(command, shell=True, stdout=subprocess.PIPE, text=True)
    try:
        assert by_hand.stdout is not None
        assert by_hand.stdout.readline().startswith("http://127.0.0.1:")
    finally:
        by_hand.terminate()
        by_hand.communicate(timeout=20)


def test_an_engine_of_ones_own_is_one_file(home: Home) -> None:
    path = engine_file(home.folder)
    assert len(path.read_text().splitlines()) <= 40
    up = home.loadgen("engine", "up", "./mine.py", "--model", "tiny-llama", "--option", "gap=2")
    assert up.returncode == 0, up.stderr
    left = measured(home)
    assert left.manifest["launched"]["options"] == {"gap": 2}
    assert left.manifest["launched"]["engine"] == str(path)
    assert left.summary["simulated"] is True


def test_what_cannot_be_started_says_why(home: Home) -> None:
    huge = ("--model", "llama2-70b-chat", "--weights", "random")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        mistakes = {
            ("lamacpp", "--model", "tiny-llama"): "unknown engine 'lamacpp': did you mean 'llamacpp'?",
            ("./none.py", "--model", "tiny-llama"): "the file does not exist",
            ("llamacpp", "--model", "tiny-lama"): "unknown model 'tiny-lama': did you mean 'tiny-llama'?",
            ("llamacpp", "--model", "./none"): "there is no such folder or GGUF file",
            ("llamacpp", "--model", "tiny-llama"): "this engine takes GGUF files",
            ("llamacpp", "--model", "none.gguf"): "none.gguf does not exist",
            ("transformers", "--model", "tiny-llama"): "there is no source of its weights",
            ("transformers", "--model", "llama2-70b-chat"): "is gated: accept its terms there and set HF_TOKEN",
            ("transformers", "--model", "me/mine", "--weights", "random"): "random weights need its shape",
            ("llamacpp", *huge): "llama2-70b-chat needs 148",
            (
                "llamacpp",
                "--model",
                "tiny-llama",
                "--weights",
                "random",
                "--port",
                port,
            ): f"--port {port}: cannot listen",
            ("llamacpp", *huge, "--gpus", "0"): "--gpus 0: GPU 0: there is none of that number; there are: none.",
            ("llamacpp", *huge, "--gpus", "x"): "--gpus x: write their numbers",
            ("llamacpp", *huge, "--option", "slot=1"): "--option slot=1: llamacpp has no option 'slot': did you",
            ("llamacpp", *huge, "--option", "slots"): "--option slots: write NAME=VALUE",
            ("tgi-1.0.1", *huge): "it needs a GPU, and there is none",
            ("transformers", *huge, "--in", "container"): "does not run in a container; there is environment",
            ("endpoint", *huge): "cannot be started from here: run it yourself and name its host",
            ("simulated", "--model", "tiny-llama"): "there is no profile 'vllm-0.1.3/tiny-llama'",
        }
        for arguments, expected in mistakes.items():
            done = home.loadgen("engine", "up", *arguments)
            assert done.returncode == 2, (arguments, done.stderr)
            assert expected in done.stderr, (arguments, done.stderr)
            assert "Traceback" not in done.stderr
    assert home.engines() == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ENGINE = 1\n", "it must define ENGINE"),
        ("1 / 0\n", "it cannot be imported: ZeroDivisionError"),
        ("from engines.engine import Engine\n", "the package engines is now loadgen.engines"),
        ("from loadgen.wire.openai_chat import OpenAIChat\n", "loadgen.protocol.chat (OpenAIChat is now ChatApi)"),
        ("from loadgen.engines.engine import WholeLength\n", "is now loadgen.engines.engine.FixedLengthFields"),
        (
            "from loadgen.engines.engine import Engine\nENGINE = Engine(name='a', title='A', apis=())\n",
            "apis must be a tuple of at least one API",
        ),
        (
            "from loadgen.engines.engine import Engine\nENGINE = Engine(name='a', title='A', tells=('/info',))\n",
            "it uses 'tells', a former name: dialect is now apis (a tuple), tells is now info_routes,",
        ),
    ],
)
def test_a_file_that_is_no_engine_says_so(home: Home, text: str, expected: str) -> None:
    (home.folder / "mine.py").write_text(text)
    done = home.loadgen("engine", "up", "./mine.py", "--model", "tiny-llama")
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


def test_an_engine_that_dies_while_it_loads_is_quoted(home: Home) -> None:
    running_command(home.folder, sys.executable, "-c", "import sys; print('CUDA out of memory'); sys.exit(7)")
    done = home.loadgen("engine", "up", "./mine.py", "--model", "tiny-llama")
    assert done.returncode == 2
    assert "ended with status 7 while it started: CUDA out of memory" in done.stderr
    assert home.engines() == []


def test_an_engine_that_never_becomes_ready_is_given_up(home: Home) -> None:
    running_command(home.folder, sys.executable, "-c", "import time; print('loading', flush=True); time.sleep(99)")
    done = home.loadgen("engine", "up", "./mine.py", "--model", "tiny-llama", "--deadline", "1")
    assert done.returncode == 2
    assert "was not ready after 1 s" in done.stderr
    assert done.stderr.rstrip().endswith("loading")
    assert home.engines() == []
    assert home.processes() == []


def test_a_program_that_is_not_there_is_named(home: Home) -> None:
    running_command(home.folder, "/nowhere/serve")
    done = home.loadgen("engine", "up", "./mine.py", "--model", "tiny-llama")
    assert done.returncode == 2
    assert "/nowhere/serve cannot be started (No such file or directory)" in done.stderr


def test_an_engine_that_answers_nothing_is_not_ready(home: Home) -> None:
    engine_file(home.folder, **{'"5"': '"5", "--status", "500"'})
    done = home.loadgen("engine", "up", "./mine.py", "--model", "tiny-llama")
    assert done.returncode == 2
    assert "is up but does not answer: " in done.stderr
    assert home.processes() == []


def test_children_that_outlive_their_parent_are_ended_too(home: Home) -> None:
    script = (
        "import subprocess, sys, os; subprocess.Popen(['sleep', '98'], start_new_session=True); "
        "subprocess.Popen(['sleep', '97'], start_new_session=True, env={}); "
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    text = f'["{{bin}}/python", "-c", {script!r}, "{{bin}}/python", '
    engine_file(home.folder, **{'["{bin}/python", ': text, '"--port", str(start.port)': '"--port", str(start.port)'})
    up = home.loadgen("engine", "up", "./mine.py", "--model", "tiny-llama")
    assert up.returncode == 0, up.stderr
    assert "sleep 98" in home.processes()
    home.loadgen("engine", "down")
    assert home.processes() == []
    assert not any(process.info["cmdline"] == ["sleep", "97"] for process in psutil.process_iter(["cmdline"]))


def test_an_engine_that_does_not_end_when_asked_is_not_asked_if_its_file_says_so(home: Home) -> None:
    asked = home.folder / "asked"
    script = (
        f"import pathlib, runpy, signal, sys; signal.signal(15, lambda *_: pathlib.Path({str(asked)!r}).touch()); "
        "signal.signal = lambda *_: None; sys.argv = sys.argv[:1] + sys.argv[3:]; "
        "runpy.run_module('loadgen.engines.simulated', run_name='__main__')"
    )
    changes = {
        '["{bin}/python", ': f'["{{bin}}/python", "-c", {script!r}, ',
        "startup_s=1": "startup_s=1, needs_sigkill=True",
    }
    engine_file(home.folder, **changes)
    assert home.loadgen("engine", "up", "./mine.py", "--model", "tiny-llama").returncode == 0
    home.loadgen("engine", "down")
    assert home.processes() == []
    assert not asked.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_start_leaves_nothing(home: Home, number: signal.Signals) -> None:
    running_command(home.folder, sys.executable, "-c", "import time; time.sleep(99)")
    process = home.start("engine", "up", "./mine.py", "--model", "tiny-llama")
    wait_for(lambda: any("sleep(99)" in line for line in home.processes()))
    process.send_signal(number)
    assert process.wait(timeout=30) == 4
    assert home.processes() == []
    assert home.engines() == []


def test_what_a_killed_start_left_is_ended_by_the_next(home: Home) -> None:
    running_command(home.folder, sys.executable, "-c", "import time; time.sleep(99)")
    process = home.start("engine", "up", "./mine.py", "--model", "tiny-llama")
    wait_for(lambda: any("time.sleep(99)" in line and "-c" in line for line in home.processes()))
    process.kill()
    process.wait()
    assert any("sleep(99)" in line for line in home.processes())
    assert "left behind" in home.loadgen("engine", "list").stdout
    up = home.loadgen("engine", "up", "llamacpp", "--model", "tiny-llama", "--weights", "random")
    assert "left by a process that was killed" in up.stderr
    assert not any("sleep(99)" in line for line in home.processes())
    assert len(home.engines()) == 1


def test_a_port_that_somebody_else_took_first_is_not_the_engines(home: Home) -> None:
    port = free_port()
    wait = "import sys, time, runpy; time.sleep(3); sys.argv = sys.argv[:1] + sys.argv[3:]; "
    script = wait + "runpy.run_module('loadgen.engines.simulated', run_name='__main__')"
    engine_file(home.folder, **{'["{bin}/python", ': f'["{{bin}}/python", "-c", {script!r}, '})
    process = home.start("engine", "up", "./mine.py", "--model", "tiny-llama", "--port", port)
    wait_for(lambda: any("runpy" in line for line in home.processes()))
    intruder = [sys.executable, "-m", "loadgen.engines.simulated", "--port", str(port), "--until-killed"]
    with subprocess.Popen(intruder, stdout=subprocess.DEVNULL) as other:
        assert process.wait(timeout=60) == 2  # not: ready, with the other's answers
        other.terminate()
    assert "ended with status 1 while it started: " in (home.folder / "loadgen.log").read_text()
    assert home.engines() == []


def test_an_engine_gets_no_secret_of_ours(home: Home) -> None:
    home.more = {"OPENAI_API_KEY": "sk-1", "HF_TOKEN": "hf_2", "MY_KEY": "sk-3", "PLAIN": "seen"}
    running_command(home.folder, sys.executable, "-c", "import os; print(dict(os.environ)); raise SystemExit(1)")
    done = home.loadgen("engine", "up", "./mine.py", "--model", "tiny-llama")
    (log,) = (home.folder / "state" / "loadgen" / "logs").iterdir()
    assert "seen" in log.read_text()
    for secret in ("sk-1", "hf_2", "sk-3"):
        assert secret not in log.read_text() + done.stderr


def test_check_names_what_is_missing(home: Home) -> None:
    done = home.loadgen("engine", "check")
    assert done.returncode == 0
    for engine in ENGINES:
        assert engine in done.stdout
    assert "it needs a GPU, and there is none" in done.stdout
    assert "No GPU: no NVIDIA driver" in done.stdout
    assert home.loadgen("engine", "check", "llamacpp").returncode == 0
    assert home.loadgen("engine", "check", "tgi-1.0.1").returncode == 2


def test_down_and_logs_of_what_does_not_run_say_so(home: Home) -> None:
    assert "no engine runs" in home.loadgen("engine", "down").stderr
    for command in ("down", "logs"):
        done = home.loadgen("engine", command, "vllm")
        assert done.returncode == 2
        assert "none of that name runs; there are: none" in done.stderr


def docker(folder: Path, *, image: bool = True, daemon: bool = True) -> Path:
    """A stand-in for docker: it keeps a record, and runs what would run in the container on the published port."""
    script = f"""#!{sys.executable}
import json, os, pathlib, signal, subprocess, sys
here, words = pathlib.Path(__file__).parent, sys.argv[1:]
with (here / "record").open("a") as file: file.write(json.dumps(words) + "\\n")
if not {daemon}: sys.exit("Cannot connect to the Docker daemon")
if words[:2] == ["image", "inspect"]:
    if not {image}: sys.exit("No such image")
    print("example/mine@sha256:0123")
elif words[0] == "pull": sys.exit("manifest unknown")
elif words[0] == "rm":
    pid = here / words[-1]
    if pid.exists(): os.kill(int(pid.read_text()), signal.SIGKILL)
elif words[0] == "run":
    name, port = words[words.index("--name") + 1], words[words.index("--publish") + 1].split(":")[1]
    inner = [w.replace("8080", port) for w in words[words.index("example/mine:1") + 1:]]
    child = subprocess.Popen(inner, env={{k: v for k, v in os.environ.items() if k != "LOADGEN_ENGINE"}})
    (here / name).write_text(str(child.pid))
    sys.exit(child.wait())
"""
    place = folder / "programs"
    place.mkdir()
    (place / "docker").write_text(script)
    (place / "docker").chmod(stat.S_IRWXU)
    return place


def asked(place: Path) -> list[list[str]]:
    """What docker was told, call by call."""
    return [json.loads(line) for line in (place / "record").read_text().splitlines()]


CONTAINER = {
    "Environment,": "Container,",
    "Environment()": 'Container(image="example/mine:1", port=8080)',
    '"{bin}/python"': repr(sys.executable),
}


def test_an_engine_in_a_container_is_started_and_removed(home: Home) -> None:
    place = docker(home.folder)
    home.more = {"PATH": f"{place}:{os.environ['PATH']}", "HF_TOKEN": "hf_secret"}
    engine_file(home.folder, **CONTAINER)
    up = home.loadgen("engine", "up", "./mine.py", "--model", "tiny-llama")
    assert up.returncode == 0, up.stderr
    (running,) = home.engines()
    assert running.launched is not None
    assert running.launched.image == "example/mine:1"
    assert running.launched.image_digest == "example/mine@sha256:0123"
    (run,) = [words for words in asked(place) if words[0] == "run"]
    assert run[run.index("--publish") + 1] == running.host.removeprefix("http://") + ":8080"
    assert "hf_secret" not in (place / "record").read_text() + up.stderr + up.stdout
    home.loadgen("engine", "down")
    assert ["rm", "--force", f"loadgen-{running.id}"] in asked(place)
    assert home.processes() == []


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ({"daemon": False}, "the docker daemon does not answer (Cannot connect to the Docker daemon)"),
        ({"image": False}, "the image example/mine:1 is not here and cannot be pulled: manifest unknown"),
    ],
)
def test_a_container_that_cannot_be_started_says_why(home: Home, there: dict[str, bool], expected: str) -> None:
    home.more = {"PATH": f"{docker(home.folder, **there)}:{os.environ['PATH']}"}
    engine_file(home.folder, **CONTAINER)
    done = home.loadgen("engine", "up", "./mine.py", "--model", "tiny-llama")
    assert done.returncode == 2
    assert expected in done.stderr


def test_without_docker_a_container_says_how_to_get_it(home: Home) -> None:
    home.more = {"PATH": str(home.folder)}
    engine_file(home.folder, **CONTAINER)
    done = home.loadgen("engine", "up", "./mine.py", "--model", "tiny-llama")
    assert done.returncode == 2
    assert "docker is not installed (docs.docker.com/engine/install" in done.stderr
