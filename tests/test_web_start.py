"""Starting from the web UI's form, without a browser: what is refused, and what the next start takes over."""

import json
import re
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from conftest import CHAT, ROOT, free_port
from serving import ScriptServer, answer, serving

from loadgen.scenario import Scenario

Start = Callable[[Sequence[str], Path], "subprocess.Popen[str]"]


class Ui:
    """Locust's web UI, spoken to as its page does."""

    def __init__(self, url: str, results: Path) -> None:
        self.url = url
        self.results = results

    def post(self, path: str, **form: str) -> dict[str, Any]:
        data = urllib.parse.urlencode(form).encode()
        with urllib.request.urlopen(f"{self.url}{path}", data=data, timeout=20) as reply:
            answered: dict[str, Any] = json.load(reply)
            return answered

    def swarm(self, **form: str) -> dict[str, Any]:
        return self.post("/swarm", **({"user_count": "1", "spawn_rate": "1"} | form))

    def state(self) -> str:
        with urllib.request.urlopen(f"{self.url}/stats/requests", timeout=20) as reply:
            return str(json.load(reply)["state"])

    def form(self) -> dict[str, dict[str, Any]]:
        """The options that the form offers."""
        with urllib.request.urlopen(self.url, timeout=20) as reply:
            (arguments,) = re.findall(r"window.templateArgs = (.*)", reply.read().decode())
        found: dict[str, dict[str, Any]] = json.loads(arguments)["extra_options"]
        return found

    def runs(self) -> list[dict[str, Any]]:
        summaries = sorted(self.results.glob("*/summary.json"), key=lambda p: p.stat().st_mtime_ns)
        return [json.loads(p.read_bytes()) for p in summaries]

    def wait_for_runs(self, count: int) -> None:
        deadline = time.monotonic() + 300
        while len(self.runs()) < count or self.state() != "stopped":
            assert time.monotonic() < deadline, self.state()
            time.sleep(0.05)


@pytest.fixture
def server() -> Iterator[ScriptServer]:
    with serving(answer(2, pause=0.01)) as started:
        yield started


@pytest.fixture
def metrics(request: pytest.FixtureRequest) -> str:
    """Where they are: a port if the test asks for one."""
    return f"127.0.0.1:{free_port()}" if getattr(request, "param", False) else "off"


FEW = ["--sample", "4", "--warmup", "1", "--max-tokens", "8"]


def started(start_locust: Start, folder: Path, *arguments: str, locustfile: Path = CHAT) -> Ui:
    """Start locust with a web UI, and wait until it answers."""
    port, results = free_port(), folder / "results"
    start_locust(["--web-port", str(port), "--results", str(results), *arguments], locustfile)
    ui = Ui(f"http://127.0.0.1:{port}", results)
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        try:
            ui.state()
        except (OSError, KeyError):
            time.sleep(0.05)
        else:
            break
    return ui


@pytest.fixture
def ui(start_locust: Start, tmp_path: Path, server: ScriptServer, metrics: str) -> Ui:
    return started(start_locust, tmp_path, "--host", server.url, "--metrics", metrics, *FEW, "--requests", "4")


def test_each_start_is_a_run_folder_of_its_own_and_ends_by_itself(ui: Ui) -> None:
    for number in (1, 2):
        assert ui.swarm()["success"]
        ui.wait_for_runs(number)
    assert [run["requests"]["completed"] for run in ui.runs()] == [4, 4]


def test_what_is_typed_counts(ui: Ui) -> None:
    assert ui.swarm(requests="6", max_tokens="4")["success"]
    ui.wait_for_runs(1)
    assert ui.runs()[0]["requests"]["completed"] == 6


@pytest.mark.parametrize("metrics", [True], indirect=True)
def test_metrics_are_those_of_the_last_start_also_after_its_end(ui: Ui, metrics: str) -> None:
    for number in (1, 2):
        assert ui.swarm()["success"]
        ui.wait_for_runs(number)
        run_id = ui.runs()[-1]["run_id"]
        text = ended_metrics(f"http://{metrics}/metrics", run_id)
        assert set(re.findall(r'run_id="([^"]+)"', text)) == {run_id}
        assert re.search(r'llmload_requests_total{.*outcome="ok".*} 4\.0', text)


def ended_metrics(url: str, run_id: str) -> str:
    """Return the exported metrics once they say that a run has ended; the exporter is a separate process."""
    due = time.monotonic() + 60
    while True:
        with urllib.request.urlopen(url, timeout=20) as reply:
            text = str(reply.read().decode())
        if re.search(rf'llmload_run_state{{.*run_id="{run_id}",state="ended"}} 1\.0', text):
            return text
        assert time.monotonic() < due, text
        time.sleep(0.1)


def test_mistakes_in_the_form_are_answered_with_their_flags(ui: Ui) -> None:
    mistakes: list[tuple[dict[str, str], str]] = [
        ({"host": "localhost:1"}, "--host localhost:1: the scheme is missing"),
        ({"host": "http://127.0.0.1:1"}, "connection refused"),
        ({"dataset": "nope"}, "--dataset"),
        ({"sample": ""}, "--sample: a number is needed"),
        ({"sample": "0"}, "--sample must be at least 1"),
        ({"max_tokens": "x"}, "--max-tokens must be a whole number"),
        ({"user_count": "0"}, "--users must be at least 1"),
        ({"steps": "1,2"}, "--steps has an effect only with locustfiles/sweep.py"),
        ({"results": "elsewhere"}, "--results: not to be set in the form"),
    ]
    for form, words in mistakes:
        answered = ui.swarm(**form)
        assert answered["success"] is False, form
        assert words in answered["message"]
        assert not ui.results.exists()


def test_a_run_time_of_the_last_start_is_forgotten(ui: Ui) -> None:
    assert ui.swarm(run_time="1s", requests="100000")["success"]
    ui.wait_for_runs(1)
    assert ui.swarm(run_time="", requests="4")["success"]
    ui.wait_for_runs(2)
    reasons = [json.loads(p.read_bytes())["ended"]["reason"] for p in sorted(ui.results.glob("*/run.json"))]
    assert sorted(reasons) == ["completed", "run-time"]


def test_stop_leaves_an_inconclusive_run(ui: Ui) -> None:
    assert ui.swarm(requests="100000")["success"]
    while not list(ui.results.glob("*/records-0.jsonl")):
        time.sleep(0.05)
    with urllib.request.urlopen(f"{ui.url}/stop", data=b"", timeout=20):
        pass
    ui.wait_for_runs(1)
    assert ui.runs()[0]["verdict"]["status"] == "INCONCLUSIVE"


def test_the_users_of_a_run_cannot_be_changed(ui: Ui) -> None:
    assert ui.swarm(requests="100000")["success"]
    while not list(ui.results.glob("*/records-0.jsonl")):
        time.sleep(0.05)
    refused = ui.swarm(user_count="2", spawn_rate="10")
    assert refused["success"] is False
    assert "The number of users cannot be changed during a run" in refused["message"]
    with urllib.request.urlopen(f"{ui.url}/stop", data=b"", timeout=20):
        pass
    ui.wait_for_runs(1)
    assert json.loads(next(ui.results.glob("*/run.json")).read_bytes())["users_changed"] is False


@pytest.mark.parametrize(
    ("name", "options", "way"),
    [("sweep.py", ["--steps", "1,2", "--step-time", "2"], "--steps"), ("rate.py", ["--rate", "5"], "--rate")],
)
def test_a_number_of_users_that_was_typed_where_it_has_no_effect_is_refused(
    start_locust: Start, tmp_path: Path, server: ScriptServer, name: str, options: list[str], way: str
) -> None:
    given = ("--host", server.url, "--metrics", "off", *FEW, *options)
    ui = started(start_locust, tmp_path, *given, locustfile=ROOT / "locustfiles" / name)
    refused = ui.swarm(user_count="7")
    assert refused["success"] is False
    assert refused["message"] == f"The number of users has no effect with locustfiles/{name}: set {way}."
    assert ui.swarm(user_count="1", spawn_rate="1")["success"]
    ui.wait_for_runs(1)
    (run,) = ui.runs()
    if name == "sweep.py":
        assert [step["concurrency"] for step in run["steps"]] == [1, 2]
    else:
        assert run["requests"]["started"] == 4  # one sender, whatever the number of users
        assert [c["status"] for c in run["verdict"]["checks"] if c["name"] == "arrivals as asked"] != ["invalid"]


COMMON = {"model", "engine", "dataset", "sample", "max_tokens", "warmup", "slo"}
OF_SWEEPS = {"steps", "step_time", "precision"}


@pytest.mark.parametrize(
    ("name", "options", "names"),
    [
        ("chat.py", [], COMMON | {"requests"}),
        ("sweep.py", ["--steps", "1,2"], COMMON | OF_SWEEPS),
        ("rate.py", ["--rate", "5"], COMMON | {"requests", "rate", "arrivals"}),
    ],
)
def test_the_form_offers_what_has_an_effect_with_the_locustfile_and_explains_it(
    start_locust: Start, tmp_path: Path, server: ScriptServer, name: str, options: list[str], names: set[str]
) -> None:
    given = ("--host", server.url, "--metrics", "off", *options)
    form = started(start_locust, tmp_path, *given, locustfile=ROOT / "locustfiles" / name).form()
    assert set(form) == names
    for option in fields(Scenario):
        if option.name in names:
            assert form[option.name]["help_text"] == option.metadata["help"]


BOTH = """
from locust import events, task
from loadgen import LLMUser, SweepUser

@events.init_command_line_parser.add_listener
def add_option(parser):
    parser.add_argument("--tenant", default="all", help="whose prompts", include_in_web_ui=True)

class One(LLMUser):
    @task
    def ask(self):
        self.llm.chat("hello")

class Many(SweepUser):
    @task
    def ask(self):
        self.llm.chat("hello")
"""


def test_the_classes_that_are_picked_in_the_form_decide_about_the_load(
    start_locust: Start, tmp_path: Path, server: ScriptServer
) -> None:
    (tmp_path / "both.py").write_text(BOTH)
    given = ("--host", server.url, "--metrics", "off", *FEW, "--class-picker", "--step-time", "2")
    ui = started(start_locust, tmp_path, *given, locustfile=tmp_path / "both.py")
    assert set(ui.form()) == COMMON | OF_SWEEPS | {"requests", "tenant"}
    assert ui.form()["tenant"]["help_text"] == "whose prompts"
    both = ui.swarm()
    assert both["success"] is False
    assert "One (closed loop), Many (sweep)" in both["message"]
    assert ui.swarm(user_classes="One")["success"]
    ui.wait_for_runs(1)
    assert ui.swarm(user_classes="Many", steps="1,2")["success"]
    ui.wait_for_runs(2)
    assert [len(run.get("steps", ())) for run in ui.runs()] == [0, 2]
