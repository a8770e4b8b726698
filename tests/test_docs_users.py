"""docs/users.md: its examples are executed, and its commands and outputs are those that there are."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import LOCUST, ROOT, clean_environment, free_port
from serving import ScriptServer, answer, serving

DOCUMENT = (ROOT / "docs" / "users.md").read_text()
FILES = dict(re.findall(r'^```python title="(\S+)"\n(.*?)^```$', DOCUMENT, re.DOTALL | re.MULTILINE))
OUTPUTS = dict(re.findall(r"^```console\n\$ (.*?)\n(.*?)^```$", DOCUMENT, re.DOTALL | re.MULTILINE))
"""What each command printed."""
LAST = "debug.py"
"""It takes the events of the whole process."""
REFUSED = {"two_hosts.py"}
HOST = "http://localhost:8000"


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptServer]:
    with serving(answer(4, pause=0.02)) as started:
        yield started


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, server: ScriptServer) -> Path:
    """The files of the document; they name our server."""
    path = tmp_path_factory.mktemp("docs")
    for name, source in FILES.items():
        (path / name).write_text(source.replace(HOST, server.url))
    return path


@pytest.fixture(scope="module")
def results(folder: Path, server: ScriptServer) -> dict[str, dict[str, Any]]:
    """What came of each example; all were run in one process."""
    names = sorted(FILES.keys() - REFUSED, key=lambda name: name == LAST)
    done = run(folder, sys.executable, str(ROOT / "tests" / "inside_docs.py"), server.url, *names)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {line["file"]: line for line in lines}


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = clean_environment(PYTHONPATH=str(ROOT / "tests"), LOADGEN_WARMUP="3")
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False
    )


def command_of(name: str) -> str:
    """The first command of the document that runs a file."""
    return next(command for command in OUTPUTS if f" {name}" in command)


def words(text: str) -> list[str]:
    """The lines of an output that have no figures, each without its surplus blanks."""
    lines = (" ".join(line.split()) for line in text.splitlines())
    return [line for line in lines if re.search("[a-z]", line) and not re.search("[0-9…]", line)]


def test_every_example_has_a_file_name_and_every_command_runs_one() -> None:
    assert DOCUMENT.count("```python") == len(FILES)
    assert DOCUMENT.count("```console") == len(OUTPUTS)
    for command in OUTPUTS:
        assert set(re.findall(r"\S+\.py", command)) & FILES.keys(), command


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("ask.py", {"ask"}),
        ("support.py", {"first question", "follow-up", "opening_hours"}),
        ("sampled.py", {"ask"}),
        ("mixed.py", {"ask", "draft"}),
        ("failures.py", {"ask", "ask again", "ask_or_end_the_task", "ask_and_catch"}),
        ("checked.py", {"ask"}),
        ("journey.py", {"greet", "choose", "ask", "on_start"}),
        ("listener.py", {"ask"}),
        ("stages.py", {"ask"}),
        ("growing.py", {"first", "second"}),
    ],
)
def test_a_locustfile_of_the_document_is_measured(
    results: dict[str, dict[str, Any]], name: str, names: set[str]
) -> None:
    result = results[name]
    assert set(result["names"]) <= names
    assert result["names"]
    assert result["requests"]["failed"] == 0
    assert result["requests"]["completed"] >= (20 if name not in {"growing.py", "stages.py"} else 5)
    assert result["checks"]["user code"] == "ok"


def test_stages_and_steps_of_the_document_have_figures_each(results: dict[str, dict[str, Any]]) -> None:
    assert results["stages.py"]["steps"] == [1, 2]
    assert results["growing.py"]["steps"] == [1, 2]


def test_scripts_of_the_document_end_well(results: dict[str, dict[str, Any]]) -> None:
    assert {"script.py", "debug.py"} <= results.keys()
    assert results["test_speed.py"]["status"] == 0


@pytest.mark.parametrize("name", ["ask.py", "support.py --headless --processes", "two_hosts.py"])
def test_a_command_of_the_document_prints_what_stands_there(folder: Path, server: ScriptServer, name: str) -> None:
    command = command_of(name)
    arguments = shlex.split(command.replace(HOST, server.url))[1:]
    if "--processes" in arguments:  # other tests have masters, too
        port = str(free_port())
        arguments += ["--master-bind-port", port, "--master-port", port]
    done = run(folder, *LOCUST, *arguments)
    printed = " ".join(f"{done.stdout} {done.stderr}".split())
    assert [line for line in words(OUTPUTS[command]) if line not in printed] == []
    refusals = [line for line in OUTPUTS[command].splitlines() if line.startswith("loadgen: ")]
    assert all(refusal in printed for refusal in refusals)


def test_commands_of_the_document_have_options_that_there_are(folder: Path) -> None:
    commands = [shlex.split(command, comments=True)[1:] for command in OUTPUTS if command.startswith("locust ")]
    code = """
import json, sys
from locust import argument_parser
import loadgen.harness
for arguments in json.loads(sys.argv[1]):
    argument_parser.get_parser().parse_args(arguments)
"""
    done = run(folder, sys.executable, "-c", code, json.dumps(commands))
    assert done.returncode == 0, done.stderr


def test_the_tables_of_equivalents_name_what_there_is() -> None:
    from loadgen import Answer

    attributes = re.findall(r"`answer\.(\w+)", DOCUMENT)
    assert attributes
    assert [name for name in attributes if not hasattr(Answer, name)] == []
    options = set(re.findall(r"`(--[a-z-]+)", DOCUMENT))
    known = (ROOT / "loadgen" / "scenario.py").read_text()
    locusts = {"--host", "--users", "--run-time", "--spawn-rate", "--stop-timeout", "--tags", "--exclude-tags"}
    missing = {o for o in options - locusts if o.removeprefix("--").replace("-", "_") + ":" not in known}
    assert missing == set()
