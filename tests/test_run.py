"""Whole runs: locust in a process of its own against a scripted server on a real socket."""

import csv
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import ROOT, Finished, Locust, records_of
from running import run_locustfile
from serving import HANG_UP, SSE_HEAD, Request, Step, answer, chunk, response, serving, token

from loadgen.record import Outcome, Phase

FEW = ("--sample", "4", "--warmup", "2", "--max-tokens", "8")
SECRET = "sk-very-secret"


@dataclass(frozen=True)
class Seen:
    """A run that has ended, and what its server was asked; all it left is in one folder."""

    done: Finished
    requests: Sequence[Request]
    folder: Path


def whole_run(folder: Path, *arguments: str, **environment: str) -> Seen:
    """Let one user go once round the sample, in three tokens each."""
    with serving(answer(3, pause=0.05)) as server:
        done = run_locustfile(folder, "chat.py", "--host", server.url, *arguments, environment=environment)
    return Seen(done, server.requests, folder)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """A run with a key, a Grafana that is named, and Locust's own tables."""
    folder = tmp_path_factory.mktemp("plain")
    more = ("--grafana", "http://127.0.0.1:3000/graphs/", "--csv", str(folder / "stats"))
    return whole_run(folder, *FEW, *more, OPENAI_API_KEY=SECRET)


@pytest.fixture(scope="module")
def set_otherwise(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """A run of more requests than prompts, with options in the environment, and a key in a file."""
    folder = tmp_path_factory.mktemp("set-otherwise")
    (folder / "key").write_text("sk-from-file\n")
    options = {"LOADGEN_MAX_TOKENS": "7", "OPENAI_API_KEY_FILE": str(folder / "key")}
    return whole_run(folder, *FEW[:4], "--requests", "10", **options)


def test_a_run_ends_by_itself_and_leaves_its_results(plain: Seen) -> None:
    done = plain.done
    sent = [json.loads(r.body) for r in plain.requests]
    done.assert_ended_well()
    names = {p.name for p in done.folder.iterdir() if p.suffix != ".png"}
    assert names == {"run.json", "records.jsonl", "summary.json", "report.md", "report.html"}
    assert [r.phase for r in done.records] == [Phase.WARMUP] * 2 + [Phase.MEASURE] * 4
    assert done.summary["kind"] == "speed"
    assert done.checks["enough samples"]["status"] == "warn"  # four answers are few
    assert done.summary["verdict"]["status"] == ("WARN" if done.status == 0 else "INVALID")
    assert done.summary["requests"]["started"] == done.summary["requests"]["completed"] == 4
    assert done.summary["speed"]["tokens_per_second_mean"]["n"] == 4
    assert len(sent) == 1 + 2 + 4  # one token is asked for beforehand, to see that all is well
    assert [s["max_tokens"] for s in sent] == [1] + [8] * 6
    assert {s["model"] for s in sent} == {"scripted"}
    assert len({s["messages"][0]["content"] for s in sent}) == 7
    assert str(done.folder.relative_to(done.results)) in done.out


def test_the_first_line_of_every_report_names_the_data_set(plain: Seen) -> None:
    done = plain.done
    assert "the project's own samples" in (done.folder / "report.md").read_text().splitlines()[0]
    assert "the project&#39;s own samples</title>" in (done.folder / "report.html").read_text()
    assert "scripted on endpoint, prompts: the project's own samples" in done.out


def test_requests_go_round_the_sample_in_a_seeded_order(set_otherwise: Seen) -> None:
    done = set_otherwise.done
    measured = [r for r in done.records if r.phase is Phase.MEASURE]
    assert [r.round for r in measured] == [0] * 4 + [1] * 4 + [2] * 2
    assert [r.prompt_row for r in measured[:4]] == done.manifest["dataset"]["sample_rows"]
    assert sorted(r.prompt_row for r in measured[4:8]) == sorted(r.prompt_row for r in measured[:4])
    assert "times, in a seeded order" in (done.folder / "report.md").read_text()


ENDING = """
from itertools import count

from locust import task

from loadgen import LLMUser
from loadgen.run import request_source
from loadgen.workload.source import SampleSource


class Three(SampleSource):
    asked = count()

    def next(self, user):
        return super().next(user) if next(self.asked) < 3 else None


def three(scenario, sample, defaults, shard, shards):
    return Three(sample, defaults, scenario.seed, shard, shards)


request_source.source_of = three


class Chat(LLMUser):
    @task
    def ask(self) -> None:
        self.llm.chat(self.llm.next_prompt())
"""


def test_a_source_that_has_nothing_left_ends_the_run(tmp_path: Path) -> None:
    (tmp_path / "ending.py").write_text(ENDING)
    with serving(answer(3, pause=0.05)) as server:
        few = ("--host", server.url, "--sample", "4", "--requests", "10", "--warmup", "0", "--users", "2")
        done = run_locustfile(tmp_path, str(tmp_path / "ending.py"), *few)
    assert done.manifest["ended"]["reason"] == "completed"
    assert [r.outcome for r in done.records] == [Outcome.OK] * 3
    assert {r.user for r in done.records} <= {0, 1}


def test_run_time_ends_a_run_and_lets_what_is_in_flight_finish(locust: Locust) -> None:
    with serving(answer(4, pause=0.2)) as server:
        done = locust("--host", server.url, *FEW, "--run-time", "3s", "--warmup", "0")
    assert done.manifest["ended"]["reason"] == "run-time"
    assert done.summary["requests"]["aborted"] == 0
    assert done.summary["requests"]["completed"] == len(server.requests) - 1
    done.assert_ended_well()


def test_requests_in_flight_at_the_stop_timeout_are_recorded_as_aborted(locust: Locust) -> None:
    def script(number: int, _request: Request) -> Sequence[Step]:
        return answer(1) if number == 0 else [(0, SSE_HEAD + chunk(token("a"))), (30, b"")]

    with serving(script) as server:
        done = locust("--host", server.url, *FEW, "--warmup", "0", "--run-time", "1s", "--stop-timeout", "1")
    (record,) = done.records
    assert (record.outcome, record.chunks) == (Outcome.ABORTED, 1)
    assert done.summary["requests"] | {"errors": {}, "by_error": {}, "causes": []} == {
        "started": 1,
        "completed": 0,
        "failed": 0,
        "aborted": 1,
        "dropped": 0,
        "errors": {},
        "by_error": {},
        "causes": [],
    }
    assert done.status == 3


def test_faults_of_the_server_are_records_and_the_counts_add_up(locust: Locust) -> None:
    faults: list[Sequence[Step]] = [
        [(0, response(b'{"error":{"message":"slow down"}}', status="429 X", extra="Retry-After: 1\r\n"))],
        [(0, response(b"", status="503 X"))],
        [(0, HANG_UP)],
        [(0, SSE_HEAD + chunk(token("a"))), (0, HANG_UP)],
        [(0, b"garbage\r\n\r\n")],
        [(0, response(b"", kind="text/event-stream"))],
        [(0, SSE_HEAD + chunk(token("a"))), (3, b"")],
    ]

    def script(number: int, _request: Request) -> Sequence[Step]:
        return faults[number - 1] if 1 <= number <= len(faults) else answer(2)

    with serving(script) as server:
        arguments = ("--sample", "10", "--warmup", "0", "--max-tokens", "8", "--idle-timeout", "0.5")
        done = locust("--host", server.url, *arguments)
        assert len(server.requests) == 11  # nothing is tried twice
    expected = {
        "rate_limited": 1,
        "http_5xx": 1,
        "broken_stream": 2,
        "bad_protocol": 1,
        "empty": 1,
        "idle_timeout": 1,
    }
    assert done.summary["requests"]["by_error"] == expected
    assert (done.summary["requests"]["completed"], done.summary["requests"]["failed"]) == (3, 7)
    assert "slow down (retry-after: 1)" in done.out
    assert done.summary["verdict"]["status"] == "INVALID"
    assert done.status == 3
    assert "Traceback" not in done.err


def test_several_users_are_a_plain_closed_loop(locust: Locust) -> None:
    with serving(answer(5, pause=0.02)) as server:
        done = locust("--host", server.url, "--sample", "40", "--max-tokens", "8", "--spawn-rate", "100", users=4)
    assert done.summary["kind"] == "throughput"
    (step,) = done.summary["steps"]
    assert step["concurrency"] == 4
    assert 0 < step["requests_per_minute"]["value"] < 4 / 0.1 * 60  # an answer takes 0.1 s and a little
    assert done.summary["throughput"]["at_concurrency"] == 4
    assert "speed" not in done.summary
    first_measured = min(r.sent_ns or 0 for r in done.records if r.phase is Phase.MEASURE)
    assert all((r.end_ns or 0) <= first_measured for r in done.records if r.phase is Phase.WARMUP)


def test_locusts_own_tables_count_requests_once_and_have_llm_rows_beside_them(plain: Seen) -> None:
    with (plain.folder / "stats_stats.csv").open() as file:
        counts = {(row["Type"], row["Name"]): row["Request Count"] for row in csv.DictReader(file)}
    assert counts == {
        ("POST", "ask"): "4",
        ("LLM", "TTFT, ms"): "4",
        ("LLM", "TPOT, ms"): "4",
        ("LLM", "tokens/s"): "4",
        ("LLM", "output tokens"): "4",
        ("", "Aggregated"): "4",
    }


def test_an_answer_that_is_not_streamed_is_measured_as_a_round_trip(locust: Locust) -> None:
    body = b'{"choices":[{"message":{"content":"Hi there"},"finish_reason":"stop"}],"usage":{"completion_tokens":2}}'
    with serving([(0.02, response(body))]) as server:
        done = locust("--host", server.url, *FEW, "--no-stream")
    done.assert_ended_well()
    assert done.summary["stream"] is False
    assert "ttft_ms" in done.summary["latency"]
    assert done.summary["latency"]["ttft_ms"] == {"n": 0}
    assert "answers not streamed" in (done.folder / "report.md").read_text()


def test_a_tokenizer_counts_where_the_server_does_not(locust: Locust, tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"t0": 0, "t1": 1, "t2": 2, "?": 3}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    said = [token("t0 t1 "), token("t2 t0 t1", "stop")]
    steps = [(0.0, SSE_HEAD), *[(0.0, chunk(e)) for e in said], (0.0, b"0\r\n\r\n")]
    with serving(steps) as server:
        by_chunks = locust("--host", server.url, *FEW)
        assert by_chunks.summary["tokens"]["counted_by"] == {"chunks": 4}
        by_chunks.folder.rename(tmp_path / "by-chunks")
        by_tokenizer = locust("--host", server.url, *FEW, "--tokenizer", str(tmp_path))
    assert by_tokenizer.summary["tokens"]["counted_by"] == {"tokenizer": 4}
    assert by_tokenizer.summary["tokens"]["output"] == 4 * 5


def test_a_secret_goes_to_the_server_and_nowhere_else(plain: Seen) -> None:
    assert {r.headers["authorization"] for r in plain.requests} == {f"Bearer {SECRET}"}
    plain.done.assert_ended_well()
    assert SECRET not in plain.done.out + plain.done.err
    for path in plain.folder.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes()


def test_a_key_may_stand_in_a_file(set_otherwise: Seen) -> None:
    assert {r.headers["authorization"] for r in set_otherwise.requests} == {"Bearer sk-from-file"}


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 4), (signal.SIGTERM, 4), (signal.SIGKILL, -9)])
def test_an_interrupted_run_keeps_what_was_completed(
    start_locust: Callable[[Sequence[str]], "subprocess.Popen[str]"],
    tmp_path: Path,
    number: signal.Signals,
    status: int,
) -> None:
    results = tmp_path / "results"
    with serving(answer(4, pause=0.05)) as server:
        process = start_locust(["--headless", "--users", "1", "--host", server.url, "--results", str(results)])
        while not (found := list(results.glob("*/records-0.jsonl"))) or len(records_of(found[0].parent)) < 9:
            time.sleep(0.02)
            assert process.poll() is None
        process.send_signal(number)
        assert process.wait(timeout=20) == status
    records = records_of(found[0].parent)
    assert {r.outcome for r in records} == {Outcome.OK}
    assert len(server.requests) - 1 - (number is signal.SIGKILL) <= len(records) <= len(server.requests) - 1
    again = subprocess.run(
        [sys.executable, "-m", "loadgen.cli", "report", str(found[0].parent)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.returncode == 4
    assert "INCONCLUSIVE" in again.stdout
    said = {signal.SIGKILL: "cut short", signal.SIGINT: "interrupted by Ctrl-C after", signal.SIGTERM: "stopped after"}
    assert said[number] in again.stdout
    assert f"{sum(r.phase is Phase.MEASURE for r in records)} completed" in again.stdout


def test_importing_a_locustfile_opens_starts_and_draws_nothing() -> None:
    program = f"""
import os, random, threading, gc, locust
import greenlet
def state():
    return sorted(os.listdir("/proc/self/fd")), threading.active_count(), random.getstate(), sum(
        isinstance(o, greenlet.greenlet) for o in gc.get_objects())
before = state()
from locust.util.load_locustfile import load_locustfile
users, shapes = load_locustfile({str(ROOT / "locustfiles" / "chat.py")!r})
assert list(users) == ["Chat"], users
after = state()
assert [b == a for b, a in zip(before, after)] == [True] * 4, "descriptors, threads, random numbers, greenlets"
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd="/")


def test_a_second_ctrl_c_aborts_what_is_in_flight(
    start_locust: Callable[[Sequence[str]], "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    def script(number: int, _request: Request) -> Sequence[Step]:
        return answer(1) if number < 3 else [(0, SSE_HEAD + chunk(token("a"))), (60, b"")]

    results = tmp_path / "results"
    with serving(script) as server:
        process = start_locust(["--headless", "--warmup", "0", "--host", server.url, "--results", str(results)])
        while len(server.requests) < 4:
            time.sleep(0.02)
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        time.sleep(2)
        assert process.poll() is None, "a request in flight is waited for"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 4
    (folder,) = results.iterdir()
    assert [r.outcome for r in records_of(folder)] == [Outcome.OK] * 2 + [Outcome.ABORTED]
    assert "Traceback" not in (tmp_path / "locust.log").read_text()


def test_options_can_be_set_in_the_environment(set_otherwise: Seen) -> None:
    assert json.loads(set_otherwise.requests[-1].body)["max_tokens"] == 7
    assert set_otherwise.done.manifest["scenario"]["max_tokens"] == 7


def test_an_interruption_shortly_before_the_end_of_the_run_time_is_one(
    start_locust: Callable[[Sequence[str]], "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    results = tmp_path / "results"
    with serving(answer(2, pause=1.5)) as server:
        arguments = ["--warmup", "0", "--run-time", "8s", "--host", server.url, "--results", str(results)]
        process = start_locust(["--headless", *arguments])
        while len(server.requests) < 2:
            time.sleep(0.02)
        time.sleep(4)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 4
    (folder,) = results.iterdir()
    assert json.loads((folder / "run.json").read_bytes())["ended"]["reason"] == "interrupted"


def test_a_grafana_that_is_named_is_linked_to_while_the_run_goes_on_and_afterwards(locust: Locust, plain: Seen) -> None:
    with serving(answer(2)) as server:
        named = ("--grafana", "http://127.0.0.1:3000/graphs/")
        done = locust("--host", server.url, *FEW, *named, "--metrics", "127.0.0.1:0")
        wrong = locust("--host", server.url, *FEW, "--grafana", "me:secret@grafana")
    assert "Watch it: not possible, as --metrics is off" in plain.done.err
    run_id = done.manifest["run_id"]
    address = "http://127.0.0.1:3000/graphs/d/llmload-run/run?orgId=1&from="
    url = done.summary["grafana"]
    (began, ended) = (int(value) for value in re.findall(r"(?:from|to)=(\d+)", url))
    assert began == done.manifest["anchor"]["realtime_ns"] // 1_000_000 - 30_000
    assert f"{address}{began}&to=now&refresh=5s&var-run_id={run_id}" in done.err
    assert 60_000 <= ended - began < 120_000
    assert f"[In Grafana](<{url}>)" in (done.folder / "report.md").read_text()
    assert f'<a href="{url.replace("&", "&amp;")}">in Grafana</a>' in (done.folder / "report.html").read_text()
    assert wrong.status == 2
    assert "--grafana: write its address, without credentials" in wrong.err
    assert "secret" not in wrong.err
