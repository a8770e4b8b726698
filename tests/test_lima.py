"""LIMA through the real ``datasets`` library, from a stand-in for the Hub on loopback."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from conftest import clean_environment

TRAIN = b"".join(
    json.dumps({"conversations": [f"q{i}", "a"], "source": "multi_turn" if i >= 1000 else "authors"}).encode() + b"\n"
    for i in range(1030)
)
PROGRAM = """
from loadgen.workload import datasets, plan
d = datasets.load("lima")
p = plan.draw(d, sample=100, warmup=5, seed=42)
print(d.name, len(d.prompts), p.sample[0].text, max(x.row for x in p.sample), sep="|")
"""


class Hub(BaseHTTPRequestHandler):
    """As much of the Hub as it takes to read one file of a gated data set."""

    def do_GET(self) -> None:
        listed = {"type": "file", "path": "train.jsonl", "size": len(TRAIN), "oid": "a" * 40}
        if self.headers.get("authorization") != "Bearer hf_good":
            self._answer(b'{"error":"Access to dataset GAIR/lima is restricted."}', 403, {"X-Error-Code": "GatedRepo"})
        elif "/tree/" in self.path:
            self._answer(json.dumps([listed]).encode())
        elif self.path.startswith("/api/datasets/GAIR/lima"):
            info = {"id": "GAIR/lima", "sha": "b" * 40, "siblings": [], "gated": "auto", "tags": []}
            self._answer(json.dumps(info).encode())
        elif self.path.endswith("/resolve/main/train.jsonl"):
            self._answer(TRAIN, 200, {"ETag": '"' + "a" * 40 + '"', "X-Repo-Commit": "b" * 40})
        else:
            self._answer(b"", 404)

    do_HEAD = do_GET  # noqa: N815 the base class finds it by this name

    def _answer(self, body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def load(hub: str, token: str, home: Path) -> "subprocess.CompletedProcess[str]":
    environment = clean_environment(HF_ENDPOINT=hub, HF_TOKEN=token, HF_HOME=str(home))
    return subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False, timeout=60
    )


def test_lima_is_loaded_with_the_users_token(hub: str, tmp_path: Path) -> None:
    done = load(hub, "hf_good", tmp_path)
    assert done.returncode == 0, done.stderr
    name, rows, first, last = done.stdout.strip().split("|")
    assert (name, rows, first) == (
        "LIMA (GAIR/lima, train)",
        "1030",
        "q654",
    )  # random.Random(42).sample(range(1000), 1)
    assert int(last) < 1000


def test_a_token_without_access_is_told_where_to_accept_the_terms(hub: str, tmp_path: Path) -> None:
    done = load(hub, "hf_bad", tmp_path)
    assert "DataError: --dataset lima: could not be loaded" in done.stderr
    assert "https://huggingface.co/datasets/GAIR/lima" in done.stderr
    assert "hf_bad" not in done.stderr
