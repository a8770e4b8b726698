"""A run that has ended is annotated in Grafana, if it may; whatever Grafana does, the run stays as it is."""

import json
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from cluster import FEW, Starter, engine
from conftest import ROOT, Finished, Locust
from serving import HANG_UP, Step, answer, response, serving

SECRET = "glsa_secret7"
TOKEN = {"GRAFANA_TOKEN": SECRET}
TAKEN: list[Step] = [(0.0, response(b'{"message":"Annotation added","id":1}'))]


def assert_nowhere(secret: str, folder: Path, *texts: str) -> None:
    for path in folder.rglob("*"):
        assert not path.is_file() or secret.encode() not in path.read_bytes(), path
    assert not any(secret in text for text in texts)


def assert_complete(done: Finished) -> None:
    done.assert_ended_well()
    assert done.summary["requests"]["completed"] == 20
    assert (done.folder / "report.html").exists()
    assert "Traceback" not in done.err


def test_a_sweep_and_its_steps_are_annotated_with_their_times(start: Starter, tmp_path: Path) -> None:
    with serving(TAKEN) as grafana, engine(tmp_path, ttft_ms=5, itl_ms=1) as server:
        steps = ("--steps", "1,2", "--step-time", "3", "--sample", "30", "--max-tokens", "4", "--warmup", "1")
        sweep = ROOT / "locustfiles" / "sweep.py"
        arguments = ("--headless", "--host", server.host, *steps, "--grafana", f"{grafana.url}/graphs/")
        run = start(*arguments, locustfile=sweep, environment=TOKEN)
        began = time.time()
        run.wait()
    assert [(r.method, r.path) for r in grafana.requests] == [("POST", "/graphs/api/annotations")] * 3
    assert {r.headers["authorization"] for r in grafana.requests} == {f"Bearer {SECRET}"}
    whole, first, second = (json.loads(r.body) for r in grafana.requests)
    run_id = run.manifest["run_id"]
    assert whole["tags"] == ["llmload", "llmload-run", f"run:{run_id}"]
    assert f">{run_id}</a>" in whole["text"]
    assert f"/graphs/d/llmload-run/run?orgId=1&amp;from={whole['time'] - 30_000}&amp;" in whole["text"]
    assert "SIMULATED" in whole["text"]
    assert run.summary["verdict"]["status"] in whole["text"]
    assert first["tags"] == ["llmload", "llmload-step", f"run:{run_id}"]
    assert [first["text"], second["text"]] == ["Step 1: 1 user", "Step 2: 2 users"]
    times = [whole["time"], first["time"], first["timeEnd"], second["time"], second["timeEnd"], whole["timeEnd"]]
    assert times == sorted(times)
    assert 2_000 < first["timeEnd"] - first["time"] < 8_000
    assert 0 < whole["time"] - began * 1000 < 30_000
    assert_nowhere(SECRET, run.results, run.said)


def test_a_token_may_be_in_a_file_and_without_one_or_without_grafana_nothing_is_sent(
    locust: Locust, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text(f"{SECRET}\n")
    from_file = {"GRAFANA_TOKEN_FILE": str(tmp_path / "token")}
    with serving(TAKEN) as grafana, serving(answer(2)) as server:
        locust("--host", server.url, *FEW, "--grafana", grafana.url).assert_ended_well()
        locust("--host", server.url, *FEW, environment=TOKEN).assert_ended_well()
        assert grafana.requests == []
        locust("--host", server.url, *FEW, "--grafana", grafana.url, environment=from_file).assert_ended_well()
    assert [r.headers["authorization"] for r in grafana.requests] == [f"Bearer {SECRET}"]


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ([(0.0, response(b"{}", status="401 Unauthorized"))], "it answers 401; GRAFANA_TOKEN must be"),
        (
            [(0.0, response(b"", status="302 Found", extra="Location: http://127.0.0.1:1/\r\n"))],
            "it answers 302. The run is complete.",
        ),
        ([(0.0, HANG_UP)], "Remote end closed connection without response"),
        ([(60.0, b"")], "timed out"),
    ],
    ids=["refuses", "sends elsewhere", "hangs up", "says nothing"],
)
def test_what_grafana_does_wrong_is_told_and_touches_nothing(locust: Locust, script: Sequence[Step], said: str) -> None:
    with serving(script) as grafana, serving(answer(2)) as server:
        done = locust("--host", server.url, *FEW, "--grafana", grafana.url, environment=TOKEN)
    assert_complete(done)
    assert f"Grafana has no annotations of this run: {said}" in done.err
    assert len(grafana.requests) == 1
    assert_nowhere(SECRET, done.folder, done.err, done.out)


def test_a_grafana_that_is_not_there_is_told(locust: Locust) -> None:
    with serving(answer(2)) as server:
        done = locust("--host", server.url, *FEW, "--grafana", "http://127.0.0.1:1", environment=TOKEN)
    assert_complete(done)
    assert "Grafana has no annotations of this run: [Errno 111] Connection refused" in done.err


def test_a_token_that_cannot_be_read_is_told_before_the_run(locust: Locust) -> None:
    with serving(answer(2)) as server:
        missing = {"GRAFANA_TOKEN_FILE": "/nowhere/token"}
        done = locust("--host", server.url, *FEW, "--grafana", "http://127.0.0.1:1", environment=missing)
        broken = {"GRAFANA_TOKEN": "two\nlines"}
        other = locust("--host", server.url, *FEW, "--grafana", "http://127.0.0.1:1", environment=broken)
        assert server.requests == []
    assert (done.status, other.status) == (2, 2)
    assert "GRAFANA_TOKEN_FILE: cannot read /nowhere/token (No such file or directory)." in done.err
    assert "GRAFANA_TOKEN: a token is one line of printable ASCII." in other.err
