"""Failures by cause: what failed, how often and where, and what a load does about it."""

import json
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest
from conftest import Finished, Locust, records_of
from running import run_locustfile
from serving import DONE, HANG_UP, SSE_HEAD, Request, Step, answer, chunk, response, serving, token, usage

from loadgen.clock import SECOND
from loadgen.measure.causes import causes, common_age_s, folded, refused_since_s
from loadgen.record import Outcome, Phase, RequestRecord

TOO_LONG = b'{"error":{"message":"This model takes 4096 tokens, you asked for 5123 (request req_7f3a9c2b11d4)"}}'


def record(outcome: Outcome, error: str | None, age_s: float = 0.1) -> RequestRecord:
    return RequestRecord(
        request_id="r", phase=Phase.MEASURE, outcome=outcome, error=error, sent_ns=1, end_ns=1 + int(age_s * 1e9)
    )


def test_failures_are_told_by_cause_the_most_frequent_first() -> None:
    failed = [record(Outcome.HTTP_4XX, f"HTTP 400: {n} tokens are too many (req-{n}f00dcafe{n})") for n in range(3)]
    failed += [record(Outcome.RATE_LIMITED, "HTTP 429: slow down") for _ in range(19)]
    failed += [record(Outcome.HTTP_4XX, f"HTTP 40{n}: no") for n in range(4, 7)]
    found = [(cause.count, cause.outcome, cause.message) for cause in causes(failed)]
    assert found[:2] == [
        (19, Outcome.RATE_LIMITED, "HTTP 429: slow down"),
        (3, Outcome.HTTP_4XX, "HTTP 400: N tokens are too many (ID)"),
    ]
    assert len(found) == 5
    many = [record(Outcome.BAD_PROTOCOL, "x" * (n + 1)) for n in range(30)]
    assert len(causes(many)) == 10


def test_ids_and_numbers_are_folded_and_a_status_is_not() -> None:
    assert folded("HTTP 503: node 7 of 12, 3.5 s, 123e4567-e89b-12d3-a456-426614174000") == (
        "HTTP 503: node N of N, N s, ID"
    )
    assert folded("the connection to somewhere-without-digits broke") == (
        "the connection to somewhere-without-digits broke"
    )


def test_many_failures_at_one_age_are_told() -> None:
    cut = [record(Outcome.BROKEN_STREAM, "cut", 60 + n / 100) for n in range(9)]
    other = [record(Outcome.BROKEN_STREAM, "cut", 3.0)]
    found = common_age_s([*cut, *other])
    assert found is not None
    assert found[0] == pytest.approx(60, abs=0.1)
    assert found[1] == 9
    assert common_age_s([record(Outcome.TOTAL_TIMEOUT, "ours", 60) for _ in range(9)]) is None
    assert common_age_s([record(Outcome.BROKEN_STREAM, "cut", 7.0 * n) for n in range(1, 10)]) is None


def test_a_server_that_listens_no_more_is_told_with_the_time() -> None:
    def sent(second: int, outcome: Outcome) -> RequestRecord:
        at = second * SECOND
        was_sent = None if outcome is Outcome.REFUSED else at
        return RequestRecord(request_id="r", phase=Phase.MEASURE, outcome=outcome, sent_ns=was_sent, end_ns=at)

    served = [sent(n, Outcome.OK) for n in range(1, 8)]
    gone = [sent(n, Outcome.REFUSED) for n in range(8, 18)]
    assert refused_since_s([*gone, *served]) == (7.0, 10)
    assert refused_since_s([*served, *gone, sent(30, Outcome.OK)]) is None
    assert refused_since_s([*served, *gone[:2]]) is None
    assert refused_since_s(gone) is None
    assert refused_since_s([*served, *gone, sent(30, Outcome.ABORTED)]) == (7.0, 10)


def test_a_run_tells_its_failures_by_status_and_message(locust: Locust) -> None:
    def script(number: int, _request: Request) -> Sequence[Step]:
        if number == 5:
            return [(0.0, response(TOO_LONG, status="400 Bad Request"))]
        limited = response(b'{"error":{"message":"Rate limit"}}', status="429 Too Many Requests")
        return [(0.0, limited)] if number > 20 else answer(2)

    with serving(script) as server:
        done = locust("--host", server.url, "--sample", "25", "--warmup", "1", "--max-tokens", "8")
    assert done.status == 3
    assert [(c["count"], c["outcome"]) for c in done.summary["requests"]["causes"]] == [
        (6, "rate_limited"),
        (1, "http_4xx"),
    ]
    shown = [line.strip() for line in done.out.splitlines() if re.match(r" +\d+ (rate_limited|http_4xx):", line)]
    assert shown[0] == "6 rate_limited: HTTP 429: Rate limit"
    assert shown[1].startswith("1 http_4xx: HTTP 400: This model takes 4096 tokens")


LOAD_CHECKS = ("concurrency as asked", "Little's law")


A_BUSY_MACHINE = re.compile(r"The other 0\.0\d were between two requests")
"""Less than a tenth of a user: what a busy machine takes between two requests, and rightly a finding."""


def assert_client_is_not_blamed(done: Finished) -> None:
    """By the checks of the load; others may object to a busy machine."""
    advice = [done.checks[name]["advice"] or "" for name in LOAD_CHECKS]
    advice = [text for text in advice if not A_BUSY_MACHINE.match(text)]
    for blame in ("connecting, is slow", "Users could not start", "--processes"):
        assert not [text for text in advice if blame in text]


@dataclass
class Shedding:
    """A server that refuses beyond so many requests at once."""

    most: int
    status: str = "429 Too Many Requests"
    at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, _number: int, request: Request) -> Iterable[Step]:
        if json.loads(request.body)["max_tokens"] == 1:
            return answer(1)
        with self.lock:
            refused = self.at_once >= self.most
            self.at_once += not refused
        if refused:
            return [(0.05, response(b"overloaded", status=self.status, kind="text/plain"))]
        return self._served()

    def _served(self) -> Iterable[Step]:
        def steps() -> Iterable[Step]:
            yield (0.0, SSE_HEAD)
            for n in range(4):
                yield (0.05, chunk(token("t", "stop" if n == 3 else None)))
            with self.lock:
                self.at_once -= 1
            yield (0.0, b"0\r\n\r\n")

        return steps()


def test_users_leave_a_server_alone_that_refuses_them_and_the_client_is_not_blamed(locust: Locust) -> None:
    with serving(Shedding(2)) as server:
        done = locust("--host", server.url, "--run-time", "6s", "--warmup", "0", "--max-tokens", "8", users=8)
    refused = [r for r in records_of(done.folder) if r.outcome is Outcome.RATE_LIMITED]
    assert 0 < len(refused) <= 6 * 8 * 4 + 8  # each user at most four times a second
    assert_client_is_not_blamed(done)
    assert "limits the rate of requests" in done.checks["failures"]["advice"]


def test_a_closed_loop_waits_as_long_as_the_server_asks_it_to(locust: Locust) -> None:
    sent: list[float] = []

    def script(number: int, _request: Request) -> Sequence[Step]:
        sent.append(time.monotonic())
        limited = response(b"{}", status="429 Too Many Requests", extra="Retry-After: 2\r\n")
        return [(0.0, limited)] if number == 2 else answer(2)

    with serving(script) as server:
        done = locust("--host", server.url, "--sample", "4", "--warmup", "0", "--max-tokens", "8")
    gaps = [later - earlier for earlier, later in pairwise(sent[1:])]
    assert [gap > 1.9 for gap in gaps] == [False, True, False]
    assert [r.retry_after_s for r in records_of(done.folder)] == [None, 2.0, None, None]


@dataclass
class Dying:
    """A server that dies when more than two requests are there at once."""

    at_once: int = 0
    is_dead: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, _number: int, _request: Request) -> Iterable[Step]:
        with self.lock:
            self.at_once += 1
            self.is_dead = self.is_dead or self.at_once > 2
        *steps, last = [(0.0, HANG_UP)] if self.is_dead else answer(4, pause=0.02)
        yield from steps
        with self.lock:  # before the client can know that the answer is over
            self.at_once -= 1
        yield last


def test_a_sweep_shows_failures_for_each_step_and_ends_after_one_without_an_answer(tmp_path: Path) -> None:
    with serving(Dying()) as server:
        steps = ("--steps", "1,2,4,8", "--step-time", "5", "--warmup", "1", "--max-tokens", "8")
        done = run_locustfile(tmp_path, "sweep.py", "--host", server.url, *steps, environment={"COLUMNS": "80"})
    assert done.status in {3, 4}
    assert len(done.summary["steps"]) == 3
    assert "no request of the step of 4 users had an answer" in done.err + done.out
    assert re.search(r"^ +users .*\bfailed\b", done.out, re.MULTILINE)


def test_a_server_that_sheds_load_has_its_failures_beside_the_steps_that_had_them(tmp_path: Path) -> None:
    with serving(Shedding(4, "503 Service Unavailable")) as server:
        steps = ("--steps", "2,8", "--step-time", "6", "--warmup", "1", "--max-tokens", "8")
        done = run_locustfile(tmp_path, "sweep.py", "--host", server.url, *steps, environment={"COLUMNS": "80"})
    users = {step["step"]: step["concurrency"] for step in done.summary["steps"]}
    failed = Counter(users[r.step] for r in records_of(done.folder) if r.outcome is Outcome.HTTP_5XX)
    assert set(failed) == {8}
    assert f"{failed[8]} at 8 users" in done.checks["failures"]["value"]
    assert re.search(r"^ +users .* failed *$", done.out, re.MULTILINE)
    rows = re.findall(r"^ +([28]) .* (\d+) *$", done.out, re.MULTILINE)
    shown = {int(users): int(count) for users, count in rows}
    assert shown[2] == 0
    assert 0 < shown[8] <= failed[8]
    assert_client_is_not_blamed(done)


DIES_AT_4 = """
import http.server, json, os, threading
there, lock = [0], threading.Lock()
class Handler(http.server.BaseHTTPRequestHandler):
    def say(self, body, kind="application/json"):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        self.say(json.dumps({"data": [{"id": "fake"}]}).encode())
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        with lock:
            there[0] += 1
            if there[0] == 4:
                os._exit(1)
        threading.Event().wait(0.1)
        with lock:
            there[0] -= 1
        self.say(STREAM, "text/event-stream")
    def log_message(self, *_):
        pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 64
server = Server(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""


def test_an_engine_that_dies_ends_the_sweep_and_the_client_is_not_blamed(tmp_path: Path) -> None:
    body = token("a") + token("b", "stop") + usage(2) + DONE
    program = f"STREAM = {body!r}\n{DIES_AT_4}"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as engine:
        try:
            assert engine.stdout is not None
            host = f"http://127.0.0.1:{engine.stdout.readline().strip()}"
            steps = ("--steps", "1,2,4,8,16", "--step-time", "5", "--warmup", "1", "--max-tokens", "8")
            done = run_locustfile(tmp_path, "sweep.py", "--host", host, *steps)
        finally:
            engine.kill()
    assert done.status in {3, 4}
    reached = [step["concurrency"] for step in done.summary["steps"]]
    assert reached in ([1, 2, 4], [1, 2, 4, 8]), done.out + done.err  # four at once may come late on a busy machine
    assert f"no request of the step of {reached[-1]} users had an answer" in done.err + done.out
    assert "connection refused" in done.checks["failures"]["value"] + done.out
    assert "did the engine die" in done.checks["failures"]["advice"]
    assert_client_is_not_blamed(done)


def test_more_users_than_files_may_be_open_is_a_mistake_that_is_named(locust: Locust) -> None:
    done = locust("--host", "http://127.0.0.1:1", users=5_000_000)
    assert done.status == 2
    assert "--users 5,000,000: that takes 5,000,128 open files" in done.err
    assert "--processes" in done.err
