"""What the web UI has of a run that has ended: its result, and its files, asked for without a browser."""

import http.client
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cluster import Started, Starter
from conftest import free_port
from serving import ScriptServer, answer, serving

FEW = "--sample 4 --warmup 1 --max-tokens 8 --requests 4 --metrics off --web-host 127.0.0.1"
CONTENT_TYPES = {
    "report.html": "text/html; charset=utf-8",
    "report.md": "text/plain; charset=utf-8",
    "summary.json": "application/json",
    "run.json": "application/json",
    "records.jsonl": "application/x-ndjson",
}
HOSTILE = [
    "../run.json",
    "..%2Frun.json",
    "%2e%2e%2f%2e%2e%2fmaster%2flocust.log",
    "/etc/passwd",
    "%2Fetc%2Fpasswd",
    "records-0.jsonl",
    "secret.txt",
    "secret.txt%00report.html",
    "report.html/..",
    ".",
    "..",
    "",
]


@dataclass
class Ui:
    """A web UI, and the process behind it."""

    port: int
    run: Started

    def get(self, path: str, method: str = "GET", body: str | None = None) -> tuple[int, dict[str, str], bytes]:
        """Send a request with the path exactly as written."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request(method, path, body, {"Content-Type": "application/x-www-form-urlencoded"} if body else {})
        reply = connection.getresponse()
        content = reply.read()
        connection.close()
        return reply.status, dict(reply.getheaders()), content

    def json(self, path: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.get(path)[2])
        return found

    def start(self, **form: str) -> None:
        fields = "&".join(f"{name}={value}" for name, value in ({"user_count": "1", "spawn_rate": "1"} | form).items())
        assert json.loads(self.get("/swarm", "POST", fields)[2])["success"]

    def data(self) -> dict[str, Any]:
        return self.json("/llm/data")

    def when_reported(self) -> None:
        """Wait until the reports of the run are written."""
        due = time.monotonic() + 300
        while "report.html" not in self.data()["files"]:
            assert time.monotonic() < due, self.run.said
            time.sleep(0.05)

    def when(self, state: str, other_than: str = "") -> dict[str, Any]:
        """Return the data of a run in this state, other than a run that is named."""
        due = time.monotonic() + 300
        while (data := self.data())["run"]["state"] != state or data["run"].get("run_id") == other_than:
            assert time.monotonic() < due, self.run.said
            time.sleep(0.05)
        return data


def opened(starter: Starter, *arguments: str, name: str = "master", **more: Any) -> Ui:
    port = free_port()
    ui = Ui(port, starter(*FEW.split(), "--web-port", str(port), *arguments, name=name, **more))
    due = time.monotonic() + 120
    while True:
        try:
            ui.get("/llm")
        except OSError:
            assert time.monotonic() < due, ui.run.said
            assert ui.run.process.poll() is None, ui.run.said
            time.sleep(0.05)
        else:
            return ui


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptServer]:
    with serving(answer(4, pause=0.02)) as started:
        yield started


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory, server: ScriptServer) -> Iterator[Ui]:
    """A web UI whose run has ended."""
    starter = Starter(tmp_path_factory.mktemp("ended"))
    ui = opened(starter, "--host", server.url)
    ui.start()
    ui.when("ended")
    ui.when_reported()
    (ui.run.folder / "secret.txt").write_text("a secret of this machine")
    yield ui
    starter.end()


def address(ui: Ui, name: str) -> str:
    return f"/llm/runs/{ui.run.folder.name}/{name}"


def test_files_of_an_ended_run_are_served_as_they_are_on_disk(ended: Ui) -> None:
    files = ended.data()["files"]
    assert files[0] == "report.html"
    assert set(CONTENT_TYPES) <= set(files)
    for name in files:
        status, headers, content = ended.get(address(ended, name))
        assert status == 200
        assert content == (ended.run.folder / name).read_bytes()
        assert headers["Content-Type"] == CONTENT_TYPES.get(name, "image/png")


def test_files_can_run_no_code_and_reach_nothing(ended: Ui) -> None:
    for name in ended.data()["files"]:
        headers = ended.get(address(ended, name))[1]
        directives = headers["Content-Security-Policy"].split("; ")
        assert "default-src 'none'" in directives
        assert any(directive.startswith("sandbox") and "allow-scripts" not in directive for directive in directives)
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"


def test_the_page_runs_no_code_but_its_own(ended: Ui) -> None:
    for name in ("/llm", "/llm/assets/llm.js", "/llm/assets/uPlot.iife.min.js", "/llm/assets/llm.css"):
        status, headers, _ = ended.get(name)
        assert status == 200
        assert "script-src 'self'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("name", HOSTILE)
def test_other_names_are_refused(ended: Ui, name: str) -> None:
    for path in (address(ended, name), f"/llm/assets/{name}"):
        status, _, content = ended.get(path)
        assert status in {308, 404}, content
        assert b"secret" not in content
        assert b"root:" not in content


@pytest.mark.parametrize("run_id", ["..", "%2e%2e", "master", "", "*", "None"])
def test_other_runs_are_refused(ended: Ui, run_id: str) -> None:
    assert ended.get(f"/llm/runs/{run_id}/summary.json")[0] in {308, 404}


def test_nothing_of_a_run_that_has_ended_is_left_once_the_next_one_goes_on(
    tmp_path: Path, server: ScriptServer
) -> None:
    starter = Starter(tmp_path)
    ui = opened(starter, "--host", server.url)
    assert ui.data()["run"] == {"state": "idle"}
    ui.start()
    first = ui.when("ended")
    assert first["result"]["headline"]["figure"].endswith("tokens/s")
    ui.when_reported()
    ui.start(requests="100000")
    going_on = ui.when("measuring")
    assert going_on["run"]["run_id"] != first["run"]["run_id"]
    assert going_on["result"] is None
    assert going_on["figures_of"] == "last 10 s"
    assert ui.get(f"/llm/runs/{first['run']['run_id']}/report.html")[0] == 404
    assert ui.get(f"/llm/runs/{going_on['run']['run_id']}/run.json")[0] == 404  # it has not ended
    ui.get("/stop", "POST", "")
    second = ui.when("ended")
    assert second["run"]["run_id"] == going_on["run"]["run_id"]
    assert second["verdict"]["status"] == "INCONCLUSIVE"
    ui.when_reported()
    assert ui.get(f"/llm/runs/{second['run']['run_id']}/report.html")[0] == 200
    assert ui.get(f"/llm/runs/{first['run']['run_id']}/report.html")[0] == 404
    starter.end()


LEISURELY = """
import gevent
from locust import events, task
from loadgen import LLMUser

class Asking(LLMUser):
    @task
    def ask(self):
        self.llm.chat("hello")

@events.test_stop.add_listener
def take_leave(**_):
    gevent.sleep(5)
"""


def test_locusts_page_sees_a_run_as_running_until_it_has_a_result(tmp_path: Path, server: ScriptServer) -> None:
    """It asks no more once a run is stopped, and listeners of the locustfile may hold up what comes after."""
    (tmp_path / "leisurely.py").write_text(LEISURELY)
    starter = Starter(tmp_path)
    ui = opened(starter, "--host", server.url, locustfile=tmp_path / "leisurely.py")
    ui.start()
    due = time.monotonic() + 120
    while (stats := ui.json("/stats/requests"))["state"] != "stopped":
        assert time.monotonic() < due, ui.run.said
        time.sleep(0.05)
    assert stats["extended_stats"][0]["data"][0]["metric"] == "result"
    starter.end()


LOGIN = """
from locust import events, task
from loadgen import LLMUser

class Asking(LLMUser):
    @task
    def ask(self):
        self.llm.chat("hello")

@events.init.add_listener
def admit_nobody(environment, **_):
    environment.web_ui.app.secret_key = "tests"
    environment.web_ui.login_manager.user_loader(lambda name: None)
"""


def test_all_of_it_is_behind_the_login(tmp_path: Path, server: ScriptServer) -> None:
    (tmp_path / "login.py").write_text(LOGIN)
    starter = Starter(tmp_path)
    ui = opened(starter, "--host", server.url, "--web-login", "--autostart", locustfile=tmp_path / "login.py")
    due = time.monotonic() + 120
    while "Results:" not in ui.run.said:
        assert time.monotonic() < due, ui.run.said
        time.sleep(0.1)
    run = f"/llm/runs/{ui.run.folder.name}"
    for path in ("/llm", "/llm/data", "/llm/assets/llm.js", f"{run}/report.html", f"{run}/records.jsonl"):
        status, headers, content = ui.get(path)
        assert (status, headers["Location"].partition("?")[0]) == (302, "/login"), path
        assert b"run_id" not in content
    starter.end()
