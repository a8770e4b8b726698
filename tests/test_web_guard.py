"""The web UI, asked by somebody who should not be able to: a page of another site, a rebound name, a forged form."""

import http.client
import json
import subprocess
import time
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from cluster import Starter
from conftest import CHAT, clean_environment, free_port
from eavesdropping import KEY, Ear, listening
from serving import answer, serving
from support.locust_process import LOCUST, popen


@dataclass
class Ui:
    """A web UI that was started with a key and a host, on the port that was named."""

    port: int
    process: "subprocess.Popen[bytes]"
    folder: Path
    allowed: Ear
    """A server that LOADGEN_KEY_HOSTS names."""
    stranger: Ear

    def ask(self, method: str, path: str, body: str | None = None, **headers: str) -> tuple[int, str]:
        """Send a request as written: with a ``Host`` only where that is given."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None:
            named.setdefault("Content-Type", "application/x-www-form-urlencoded")
        connection.request(method, path, body, {"Host": f"127.0.0.1:{self.port}"} | named)
        reply = connection.getresponse()
        text = reply.read().decode()
        connection.close()
        return reply.status, text

    def swarm(self, **form: str) -> str:
        """Start a run by the form; returns the message that it answers with."""
        fields = {"user_count": "1", "spawn_rate": "1"} | form
        status, text = self.ask("POST", "/swarm", urllib.parse.urlencode(fields))
        assert status == 200, text
        answered = json.loads(text)
        assert answered["success"] is False, answered
        return str(answered["message"])

    @property
    def runs(self) -> list[Path]:
        return list((self.folder / "results").glob("*"))


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    folder, port = tmp_path_factory.mktemp("guarded"), free_port()
    with serving(answer(2)) as server, listening() as allowed, listening() as stranger:
        few = ["--sample", "4", "--warmup", "1", "--requests", "4"]
        command = [*LOCUST, "-f", str(CHAT), "--web-port", str(port), "--host", server.url, *few]
        variables = {"OPENAI_API_KEY": KEY, "LOADGEN_KEY_HOSTS": f"{allowed.url},gpu.example"}
        with (folder / "log").open("wb") as log:
            process = popen(
                command, cwd=folder, env=clean_environment(**variables), stdout=log, stderr=subprocess.STDOUT
            )
        started = Ui(port, process, folder, allowed, stranger)
        wait_until_it_answers(started)
        yield started
        process.kill()
        process.wait()


def wait_until_it_answers(ui: Ui) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if "state" in json.loads(ui.ask("GET", "/stats/requests")[1]):
                return
        except (OSError, http.client.HTTPException, ValueError):
            time.sleep(0.05)
    raise AssertionError((ui.folder / "log").read_text())


def test_without_web_host_it_listens_on_loopback_only(ui: Ui) -> None:
    listens = [c.laddr for c in psutil.Process(ui.process.pid).net_connections("tcp") if c.status == "LISTEN"]
    assert [address.ip for address in listens if address.port == ui.port] == ["127.0.0.1"]


ROUTES = [
    *(("POST", path) for path in ("/swarm", "/stop", "/stats/reset", "/user")),
    *(
        ("GET", path)
        for path in ("/", "/stats/requests", "/logs", "/tasks", "/exceptions", "/llm/data", "/llm/runs/x/run.json")
    ),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_pages_of_other_sites_and_names_that_lead_here_are_refused(ui: Ui, method: str, path: str) -> None:
    body = "user_count=1&spawn_rate=1" if method == "POST" else None
    for headers in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": f"http://localhost:{free_port()}"},
        {"Host": f"evil.example:{ui.port}"},
        {"Host": f"evil.example:{ui.port}", "Origin": f"http://evil.example:{ui.port}"},
    ):
        assert ui.ask(method, path, body, **headers)[0] == 403, headers
    assert ui.runs == []


@pytest.mark.parametrize(
    "headers",
    [{"Referer": "http://evil.example/page"}, {"Sec_Fetch_Site": "cross-site"}, {"Sec_Fetch_Site": "same-site"}],
)
def test_a_change_without_origin_is_refused_if_the_browser_says_that_it_comes_from_elsewhere(
    ui: Ui, headers: dict[str, str]
) -> None:
    assert ui.ask("POST", "/stop", "", **headers)[0] == 403


def test_a_refusal_says_how_to_admit_a_proxys_name(ui: Ui) -> None:
    status, text = ui.ask("GET", "/", Host="bench.example")
    assert (status, "--web-host-display-name bench.example" in text) == (403, True)


def test_pages_of_its_own_and_programs_are_served(ui: Ui) -> None:
    own = f"http://localhost:{ui.port}"
    for headers in (
        {},
        {"Host": f"localhost:{ui.port}", "Origin": own},
        {"Host": f"[::1]:{ui.port}"},
        {"Host": "localhost:9000", "Origin": "http://localhost:9000"},  # a tunnel
        {"Host": f"localhost:{ui.port}", "Referer": f"{own}/", "Sec-Fetch-Site": "same-origin"},
    ):
        assert ui.ask("POST", "/stats/reset", "", **headers)[0] == 200, headers
        assert ui.ask("GET", "/stats/requests", **headers)[0] == 200, headers


def test_the_key_is_not_sent_to_a_host_of_the_form(ui: Ui) -> None:
    message = ui.swarm(host=ui.stranger.url)
    assert all(word in message for word in ("OPENAI_API_KEY", ui.stranger.url, "--host", "LOADGEN_KEY_HOSTS"))
    assert KEY not in message
    assert ui.stranger.heard == b""


def test_the_key_is_for_a_scheme_and_a_port_too(ui: Ui) -> None:
    assert "LOADGEN_KEY_HOSTS" in ui.swarm(host=f"https://{ui.allowed.authority}")
    assert "LOADGEN_KEY_HOSTS" in ui.swarm(host=f"http://localhost:{ui.allowed.authority.rpartition(':')[2]}")
    assert "LOADGEN_KEY_HOSTS" in ui.swarm(host="http://gpu.example")  # without a scheme https is meant
    assert ui.allowed.heard == b""


def test_neither_code_nor_files_can_be_named_in_the_form(ui: Ui, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    code = tmp_path / "engine.py"
    code.write_text(f"open({str(ran)!r}, 'w')\n")
    secret = tmp_path / "secret.jsonl"
    secret.write_text('{"prompt": "a secret of this machine"}\n' * 9)
    assert "--engine" in ui.swarm(engine=str(code))
    assert "--dataset" in ui.swarm(dataset=str(secret))
    assert not ran.exists()
    assert ui.runs == []


@pytest.mark.parametrize(
    "name",
    [
        "results",
        "tokenizer",
        "metrics",
        "grafana",
        "insecure",
        "client",
        "html_file",
        "csv_prefix",
        "config",
        "class_picker",
    ],
)
def test_what_the_form_does_not_offer_cannot_be_set(ui: Ui, name: str, tmp_path: Path) -> None:
    message = ui.swarm(**{name: str(tmp_path / "elsewhere")})
    assert "--" + name.replace("_", "-") in message
    assert not (tmp_path / "elsewhere").exists()
    assert ui.runs == []


@pytest.mark.parametrize(
    "edit", [{"host": "http://evil.example"}, {"kind": "rate"}, {"weight": "many"}, {"user_class_name": "None"}]
)
def test_a_user_class_cannot_be_turned_into_something_else(ui: Ui, edit: dict[str, str]) -> None:
    body = json.dumps({"user_class_name": "Chat"} | edit)
    assert ui.ask("POST", "/user", body, Content_Type="application/json")[0] == 403


def test_a_host_that_was_allowed_gets_the_key(ui: Ui) -> None:  # last: it starts a run
    fields = urllib.parse.urlencode({"user_count": "1", "spawn_rate": "1", "host": ui.allowed.url})
    assert json.loads(ui.ask("POST", "/swarm", fields)[1])["success"] is True
    assert KEY.encode() in ui.allowed.heard


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_other_interfaces_are_warned_of_and_names_of_a_proxy_admitted(start: Starter) -> None:
    port = free_port()
    web = ("--web-host", "0.0.0.0", "--web-port", str(port), "--web-host-display-name", "https://bench.example/ui")
    with serving(answer(1)) as server:
        run = start(*web, "--host", server.url)
        wait_for(lambda: "Everybody who can reach" in run.said)
        ui = Ui(port, run.process, run.results.parent, Ear(""), Ear(""))
        wait_until_it_answers(ui)
        assert ui.ask("POST", "/stop", "", Host="bench.example", Origin="https://bench.example")[0] == 200
        assert ui.ask("POST", "/stop", "", Origin="https://bench.example")[0] == 200  # a proxy that rewrites Host
        assert ui.ask("POST", "/stop", "", Host="evil.example", Origin="http://evil.example")[0] == 403


def test_a_web_port_that_is_taken_is_reported(start: Starter) -> None:
    with serving(answer(1)) as server:
        port = server.url.rpartition(":")[2]
        run = start("--web-port", port, "--host", server.url, "--processes", "2")
        assert run.wait() == 2, run.said
    assert f"--web-port {port}" in run.said
    assert "Traceback" not in run.said
