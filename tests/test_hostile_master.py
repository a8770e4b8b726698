"""A worker that has joined a hostile master, which names a server for its key, a place to write, code to run."""

import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq
from conftest import CHAT, clean_environment
from eavesdropping import KEY, Ear, listening
from support.locust_process import LOCUST, popen

from loadgen.models.template import template_text
from loadgen.results.manifest import Manifest, to_json
from loadgen.scenario import Scenario

ENGINE_FILE = """
from dataclasses import replace
from loadgen.engines.endpoint import ENGINE as endpoint
from loadgen.errors import UsageError

ENGINE = replace(endpoint, name="mine")
"""


@dataclass
class Master:
    """Speaks to one worker as a master does, and says what no master of ours would."""

    socket: "zmq.Socket[bytes]"
    folder: Path
    given: Ear
    """The host of the worker's command line."""
    stranger: Ear
    worker: bytes = b""

    def send(self, kind: str, data: Any) -> None:
        self.socket.send_multipart([self.worker, msgpack.dumps((kind, data, self.worker.decode()))])

    def hear(self, wanted: str) -> Any:
        """Wait for a message of a kind, and be a good master meanwhile."""
        while self.socket.poll(30_000):
            sender, message = self.socket.recv_multipart()
            kind, data, _ = msgpack.loads(message, strict_map_key=False)
            self.worker = sender
            if kind == "client_ready":
                self.send("ack", {"index": 0})
            elif kind == "heartbeat":
                self.send("heartbeat", None)
            if kind == wanted:
                return data
        raise AssertionError(f"no {wanted}: {(self.folder / 'log').read_text()}")

    def order(self, **changes: Any) -> str | None:
        """Give orders, and have them carried out whatever the worker answers; returns why it refuses, if it does."""
        orders = self.orders(**changes)
        self.send("loadgen-begin", packed(orders))
        refused: str | None = msgpack.loads(self.hear("loadgen-ready")["packed"])["refused"]
        self.send("loadgen-go", packed({"step": None, "eager_share": 1.0, "spread_s": 0.0}))
        self.send("loadgen-finish", None)
        self.round_trip()
        return refused

    def start_a_user(self) -> None:
        options = {"user_classes_count": {"Chat": 1}, "host": self.stranger.url, "stop_timeout": 1.0}
        self.send("spawn", options | {"timestamp": time.time(), "parsed_options": {}})
        self.hear("spawning_complete")

    def round_trip(self) -> None:
        """Wait until the worker has read everything that was sent before."""
        self.send("loadgen-clock", packed({"asked_ns": 1}))
        self.hear("loadgen-clock")

    def orders(self, **changes: Any) -> dict[str, Any]:
        run_id = changes.get("run_id", "20261129-000000-speed-m-0000")
        scenario = asdict(Scenario()) | changes.pop("scenario", {})
        orders = {
            "run_id": run_id,
            "number": 1,
            "shard": 0,
            "shards": 1,
            "scenario": scenario,
            "engine": "endpoint",
            "model": "m",
            "host": self.given.url,
            "sample": [{"row": 0, "text": "Hello."}],
            "stop": (),
            "planned": 1,
            "stop_timeout_s": 1.0,
            "with_key": True,
            "folder": str(self.folder / "masters" / run_id),
            "manifest": to_json(manifest(run_id)),
        }
        return orders | changes


def packed(message: dict[str, Any]) -> dict[str, bytes]:
    return {"packed": msgpack.dumps(message)}


def manifest(run_id: str) -> Manifest:
    return Manifest(
        run_id=run_id,
        kind="speed",
        engine="endpoint",
        model="m",
        host="http://127.0.0.1:1",
        simulated=False,
        scenario={},
        users=1,
        run_time_s=None,
        planned_requests=1,
        dataset={},
        server={},
        versions={},
        environment={},
        started_at="2026-11-29T00:00:00+00:00",
        anchor={"realtime_ns": 0, "monotonic_ns": 0},
    )


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Master]:
    folder = tmp_path_factory.mktemp("joined")
    (folder / "mine.py").write_text(ENGINE_FILE)
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket, listening() as given, listening() as stranger:
        socket.linger = 0
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        joins = ["--worker", "--master-host", "127.0.0.1", "--master-port", str(port)]
        own = ["--host", given.url, "--results", str(folder / "results"), "--engine", str(folder / "mine.py")]
        with (folder / "log").open("wb") as log:
            worker = popen(
                [*LOCUST, "-f", str(CHAT), *joins, *own],
                cwd=folder,
                env=clean_environment(OPENAI_API_KEY=KEY),
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        joined = Master(socket, folder, given, stranger)
        joined.hear("loadgen-hello")
        yield joined
        worker.kill()
        worker.wait()


def test_orders_that_it_can_follow_are_followed_below_its_own_results(master: Master) -> None:
    assert master.order(run_id="fair") is None
    assert (master.folder / "results" / "fair" / "run.json").exists()


def test_a_folder_of_the_run_that_it_sees_is_used(master: Master) -> None:
    folder = master.folder / "masters" / "shared"
    folder.mkdir(parents=True)
    (folder / "run.json").write_bytes(to_json(manifest("shared")))
    assert master.order(run_id="shared") is None
    assert (folder / "records-1.jsonl").exists()
    assert not (master.folder / "results" / "shared").exists()


def test_its_key_is_not_for_a_host_that_the_master_names(master: Master) -> None:
    master.send("loadgen-begin", packed(master.orders(run_id="elsewhere", host=master.stranger.url)))
    refused: str | None = msgpack.loads(master.hear("loadgen-ready")["packed"])["refused"]
    master.start_a_user()
    master.send("loadgen-go", packed({"step": None, "eager_share": 1.0, "spread_s": 0.0}))
    for _ in range(3):  # a report a second: a request would have been made by then
        master.hear("stats")
    master.send("stop", None)
    master.hear("client_ready")
    assert KEY.encode() not in master.stranger.heard
    assert refused is not None
    assert all(word in refused for word in ("OPENAI_API_KEY", "--host", "LOADGEN_KEY_HOSTS"))
    assert KEY not in refused
    assert master.stranger.heard == b""
    assert not (master.folder / "results" / "elsewhere").exists()


@pytest.mark.parametrize("run_id", ["../../up", "..", "/absolute", "a/b", ".hidden", "", "x" * 300, "a\nb", "a\x00b"])
def test_a_run_id_is_no_path(master: Master, run_id: str) -> None:
    before = sorted(master.folder.parent.rglob("*"))
    assert "run id" in str(master.order(run_id=run_id))
    assert sorted(master.folder.parent.rglob("*")) == before


def test_a_folder_that_is_not_the_runs_is_not_written_to(master: Master, tmp_path: Path) -> None:
    content = to_json(manifest("victim"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "run.json").write_bytes(content)  # the right manifest under another name
    (tmp_path / "victim").symlink_to(tmp_path / "other")
    for folder in (tmp_path / "other", tmp_path / "victim", Path("relative/victim")):
        assert master.order(run_id="victim", folder=str(folder)) is None  # it writes below its own results
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["run.json"]


def test_a_link_in_place_of_its_records_is_not_followed(master: Master, tmp_path: Path) -> None:
    folder = tmp_path / "linked"
    folder.mkdir()
    (folder / "run.json").write_bytes(to_json(manifest("linked")))
    (folder / "records-1.jsonl").symlink_to(tmp_path / "precious")
    assert "cannot write there" in str(master.order(run_id="linked", folder=str(folder)))
    assert not (tmp_path / "precious").exists()


def test_the_folder_of_an_earlier_run_is_left_alone(master: Master) -> None:
    earlier = master.folder / "results" / "earlier"
    earlier.mkdir(parents=True)
    (earlier / "run.json").write_text("{}")
    assert "another run's" in str(master.order(run_id="earlier"))
    assert [path.name for path in earlier.iterdir()] == ["run.json"]
    assert (earlier / "run.json").read_text() == "{}"


def test_engine_files_are_its_own(master: Master, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    (tmp_path / "engine.py").write_text(f"open({str(ran)!r}, 'w')\n")
    (tmp_path / "mine.py").write_text(f"open({str(ran)!r}, 'w')\n")
    assert "--engine" in str(master.order(run_id="code", engine=str(tmp_path / "engine.py")))
    assert master.order(run_id="mine", engine=str(tmp_path / "mine.py")) is None  # its own file of that name
    assert not ran.exists()


def test_a_tokenizer_is_its_own(master: Master, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    scenario = {"tokenizer": str(tmp_path / "tokenizer.json")}
    assert "give this worker its own --tokenizer" in str(master.order(run_id="read", scenario=scenario))


def test_a_chat_template_is_its_own(master: Master) -> None:
    endless = (
        "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}{% endfor %}"
    )
    for template in (endless + "{% endfor %}", "{{ 'a' * 10**10 }}", "{{", "plain"):
        assert "a chat template that this worker does not have" in str(
            master.order(run_id="foreign", template=template)
        )
    assert master.order(run_id="known", template=template_text("vicuna_v1.1")) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"scenario": {"max_tokens": "many"}},
        {"scenario": {"max_tokens": [1]}},
        {"scenario": {"temperature": float("inf")}},
        {"scenario": {"idle_timeout": -1}},
        {"scenario": {"client": "curl"}},
        {"shards": 0},
        {"shard": 5},
        {"number": -1},
        {"sample": []},
        {"planned": -1},
        {"stop_timeout_s": float("nan")},
        {"host": "gopher://x"},
        {"manifest": b"{"},
        {"manifest": to_json(manifest("another"))},
    ],
)
def test_absurd_orders_are_refused(master: Master, changes: dict[str, Any]) -> None:
    assert master.order(run_id="absurd", **changes) is not None
    assert not (master.folder / "results" / "absurd").exists()


def test_it_survives_what_cannot_be_decoded(master: Master) -> None:
    for data in (b"\xc1", b"", b"\x93\x01", msgpack.dumps("text"), msgpack.dumps(("a", "b")), b"\x91" * 5_000):
        master.socket.send_multipart([master.worker, data])
    for kind in ("loadgen-begin", "loadgen-go", "loadgen-clock", "update_user_class", "spawn", "unheard-of"):
        for content in (None, 7, [], {"packed": 7}, {"packed": b"\xc1"}, {"user_class_name": "None"}):
            master.send(kind, content)
    master.round_trip()
    assert "Traceback" not in (master.folder / "log").read_text()
