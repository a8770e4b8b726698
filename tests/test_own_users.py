"""Locustfiles of users: own prompts, conversations, think time, names and limits, exceptions, other users beside."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import LOCUST, ROOT, Finished, clean_environment, free_port
from running import run_locustfile
from serving import ScriptServer, answer, serving

from loadgen.record import Phase, RequestRecord

FEW = ("--warmup", "2", "--metrics", "off")

HEAD = """
from locust import between, constant, task, FastHttpUser, LoadTestShape
from loadgen import ChatFailed, LLMUser, SweepUser, OpenLoopUser
"""

SUPPORT = """
class Support(LLMUser):
    wait_time = between(0.01, 0.05)
    temperature = 0.5
    extra_body = {"top_p": 0.25}

    @task
    def ask_and_follow_up(self):
        first = self.llm.chat("My order has not arrived.", max_tokens=9, name="first question")
        assert first.ok and first.text == "t0 t1 t2 ", first
        assert first.usage.output_tokens == 3 and 0 < first.ttft_ms <= first.e2e_ms
        second = self.client.chat([*first.messages, "And if it does not come tomorrow?"], seed=7)
        assert [m["role"] for m in second.messages] == ["user", "assistant"] * 2

class Sampled(LLMUser):
    max_tokens = 4

    @task
    def ask(self):
        system = {"role": "system", "content": "Answer briefly."}
        self.llm.chat(messages=[system, {"role": "user", "content": self.llm.next_prompt()}])
"""


@pytest.fixture
def server() -> Iterator[ScriptServer]:
    with serving(answer(3, pause=0.002)) as started:
        yield started


def run(folder: Path, source: str, *arguments: str, host: str | None = None) -> Finished:
    """Run a locustfile with this source to its end."""
    (folder / "own.py").write_text(HEAD + source)
    return run_locustfile(folder, str(folder / "own.py"), *FEW, *(("--host", host) if host else ()), *arguments)


def measured(done: Finished) -> list[RequestRecord]:
    return [r for r in done.records if r.phase is Phase.MEASURE]


def bodies(server: ScriptServer) -> list[dict[str, Any]]:
    return [json.loads(request.body) for request in server.requests]


def check(done: Finished, name: str) -> dict[str, Any]:
    (found,) = [c for c in done.summary["verdict"]["checks"] if c["name"] == name]
    return dict(found)


def test_headers_path_and_body_of_the_command_line_reach_users_of_ones_own(
    tmp_path: Path, server: ScriptServer
) -> None:
    tenant = tmp_path / "tenant"
    tenant.write_text("tenant-secret-9876\n")
    options = ("--endpoint", "/gateway/chat?api-version=1", "--header", f"x-tenant-key=file:{tenant}", "--top-p", "0.5")
    more = ("--auth", "none", "--extra-body", '{"chat_template_kwargs": {"enable_thinking": false}}')
    done = run(tmp_path, SUPPORT, *options, *more, "--users", "2", "--requests", "12", host=server.url)
    assert done.status in {0, 3}, done.err
    assert {request.path for request in server.requests} == {"/gateway/chat?api-version=1"}
    assert {request.headers["x-tenant-key"] for request in server.requests} == {"tenant-secret-9876"}
    assert not [request for request in server.requests if "authorization" in request.headers]
    for body in bodies(server):
        assert body["chat_template_kwargs"] == {"enable_thinking": False}
        assert body["top_p"] == 0.5  # the command line wins over the class
    assert "tenant-secret-9876" not in done.err + done.out


def test_users_ask_what_their_tasks_say_and_figures_are_by_name(tmp_path: Path, server: ScriptServer) -> None:
    port = str(free_port())
    two = ("--processes", "2", "--master-bind-port", port, "--master-port", port, "--users", "4", "--requests", "60")
    done = run(tmp_path, SUPPORT, *two, host=server.url)
    assert done.status in {0, 3}, done.err
    assert "Traceback" not in done.err
    assert len(measured(done)) == 60
    assert sum(r.phase is Phase.WARMUP for r in done.records) == 2
    names = Counter(r.name for r in done.records)
    assert set(names) == {"first question", "ask_and_follow_up", "ask"}
    assert set(done.summary["by_name"]) == set(names)
    asked = [body for body in bodies(server) if len(body["messages"]) > 1 or body["max_tokens"] != 1]
    follow_ups = [body for body in asked if len(body["messages"]) == 3]
    assert follow_ups
    for body in follow_ups:
        assert body["messages"][1] == {"role": "assistant", "content": "t0 t1 t2 "}
        assert (body["max_tokens"], body["temperature"], body["top_p"], body["seed"]) == (512, 0.5, 0.25, 7)
    sampled = [body for body in asked if body["messages"][0]["role"] == "system"]
    assert {body["max_tokens"] for body in sampled} == {4}
    assert all("top_p" not in body for body in sampled)
    of_sample = [r for r in measured(done) if r.name == "ask"]
    assert all(r.prompt_row in done.manifest["dataset"]["sample_rows"] for r in of_sample)
    assert all(r.prompt_row is None for r in measured(done) if r.name != "ask")
    later = [r for r in done.records if r.name == "ask_and_follow_up"]
    assert all(r.think_ns is not None for r in later)
    assert check(done, "user code")["status"] == "ok"


def test_options_of_the_command_line_win_over_attributes_of_the_class(tmp_path: Path, server: ScriptServer) -> None:
    source = """
class Own(LLMUser):
    model, max_tokens, temperature = "of the class", 4, 0.5

    @task
    def ask(self):
        self.llm.chat("hello")
"""
    done = run(tmp_path, source, "--requests", "4", "--max-tokens", "512", host=server.url)
    assert {(body["model"], body["max_tokens"], body["temperature"]) for body in bodies(server)[1:]} == {
        ("of the class", 512, 0.5)
    }
    assert (done.manifest["scenario"]["max_tokens"], done.manifest["scenario"]["temperature"]) == (512, 0.5)


def test_an_exception_in_a_task_is_counted_and_the_run_goes_on(tmp_path: Path, server: ScriptServer) -> None:
    source = """
class Raises(LLMUser):
    asked = 0

    @task
    def ask(self):
        self.asked += 1
        if self.asked == 3:
            raise ValueError("my own check failed")
        self.llm.chat(self.llm.next_prompt())
"""
    done = run(tmp_path, source, "--requests", "60", host=server.url)
    assert len(measured(done)) == 60
    assert 'raise ValueError("my own check failed")' in done.err
    found = check(done, "user code")
    assert (found["status"], "ValueError: my own check failed" in found["value"]) == ("warn", True)
    assert done.manifest["ended"]["reason"] == "completed"


def test_tasks_that_raise_before_any_request_do_not_go_on_for_ever(tmp_path: Path, server: ScriptServer) -> None:
    source = """
class Wrong(LLMUser):
    @task
    def ask(self):
        self.llm.ask("hello")
"""
    done = run(tmp_path, source, host=server.url)
    assert done.status in {3, 4}
    assert "AttributeError" in check(done, "user code")["value"]
    assert "tasks raised before any request was sent" in check(done, "run complete")["value"]


def test_a_failed_request_is_an_answer_or_an_exception_as_the_caller_likes(tmp_path: Path) -> None:
    source = """
class Own(LLMUser):
    @task
    def ask(self):
        answer = self.llm.chat("hello")
        assert not answer.ok and answer.outcome == "http_5xx" and answer.messages == [
            {"role": "user", "content": "hello"}
        ], answer
        try:
            self.llm.chat("again", raise_on_failure=True)
        except ChatFailed as failed:
            assert failed.answer.outcome == "http_5xx"
        self.llm.chat("and again", raise_on_failure=True)
"""
    calls = iter(range(1000))

    def script(_number: int, _request: object) -> Any:
        from serving import response

        return answer(3) if next(calls) < 1 else [(0.0, response(b'{"error": "no"}', status="500 Oops"))]

    with serving(script) as server:
        done = run(tmp_path, source, "--requests", "9", "--warmup", "0", host=server.url)
    assert done.summary["requests"]["by_error"] == {"http_5xx": 9}
    assert check(done, "user code")["status"] == "ok"


def test_only_users_of_ours_count_as_load(tmp_path: Path, server: ScriptServer) -> None:
    source = """
class Other(FastHttpUser):
    wait_time = constant(0.05)

    @task
    def ping(self):
        self.client.get("/v1/models", name="ping")

class Ours(LLMUser):
    @task
    def ask(self):
        self.llm.chat(self.llm.next_prompt())
"""
    done = run(tmp_path, source, "--users", "4", "--requests", "120", host=server.url)
    assert done.manifest["users"] == 2
    assert {r.user for r in done.records} == {0, 1}
    assert check(done, "concurrency as asked")["value"].startswith("2 ")
    assert server.connections > len(done.records) + 2


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (
            "class A(LLMUser):\n    host, tasks = 'http://h:1', [print]\nclass B(A):\n    host = 'http://h:2'\n",
            "the user classes name several values of 'host'",
        ),
        (
            "class A(SweepUser):\n    tasks = [print]\nclass Shape(LoadTestShape):\n    tick = print\n",
            "the LoadTestShape Shape and --steps both set the number of users",
        ),
        (
            "class A(LLMUser):\n    tasks = [print]\nclass B(SweepUser):\n    tasks = [print]\n",
            "A (closed loop), B (sweep). Name those of one kind",
        ),
        ("class A(LLMUser):\n    max_tokens = 0\n    tasks = [print]\n", "A.max_tokens must be"),
        ("class A(LLMUser):\n    extra_body = {'model': 'x'}\n    tasks = [print]\n", "A.extra_body has model"),
    ],
    ids=["two hosts", "shape and sweep", "two kinds", "limit", "body"],
)
def test_what_a_run_cannot_honour_is_refused_before_it(tmp_path: Path, source: str, words: str) -> None:
    (tmp_path / "own.py").write_text(HEAD + source)
    done = run_locustfile(tmp_path, str(tmp_path / "own.py"), *FEW)
    assert done.status == 2
    assert words in done.err
    assert "Traceback" not in done.err


def test_the_chosen_classes_decide_about_the_kind_of_load(tmp_path: Path, server: ScriptServer) -> None:
    def locust(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [*LOCUST, "-f", str(ROOT / "locustfiles"), *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=clean_environment(), capture_output=True, text=True, timeout=300, check=False
        )

    listed = locust("--list")
    assert listed.returncode == 0
    assert {"Arrivals", "Chat", "Sweep"} <= set(listed.stdout.split())
    few = (*FEW, "--host", server.url, "--sample", "4", "--headless", "--results", str(tmp_path / "results"))
    assert locust(*few, "Chat").returncode == 0
    refused = locust(*few)
    assert refused.returncode == 2
    assert "Chat (closed loop), Arrivals (open loop), Sweep (sweep)" in refused.stderr.replace("\n", " ")


SHAPE = """
class Ours(LLMUser):
    @task
    def ask(self):
        self.llm.chat(self.llm.next_prompt(), max_tokens=3)

class Steps(LoadTestShape):
    def tick(self):
        at = self.get_run_time()
        return (2, 10) if at < 8 else (4, 10) if at < 16 else (3, 10) if at < 18 else None
"""


def test_a_load_test_shape_is_measured_stage_by_stage(tmp_path: Path, server: ScriptServer) -> None:
    done = run(tmp_path, SHAPE, host=server.url)
    assert done.manifest["ended"]["reason"] == "completed", done.err
    assert [step["concurrency"] for step in done.summary["steps"]] == [2, 4]  # 3 users were there for 2 s only
    assert all(step["requests"] > 100 for step in done.summary["steps"])
    assert check(done, "run complete")["status"] == "ok"


def test_a_shape_that_holds_no_number_of_users_for_long_has_no_throughput(tmp_path: Path, server: ScriptServer) -> None:
    head, _, _ = SHAPE.partition("        return (2, 10)")
    ramp = f"{head}        return (1 + int(at), 10) if at < 3 else None\n"
    done = run(tmp_path, ramp, host=server.url)
    assert done.summary["users_changed"] is True
    assert done.summary["throughput"]["at_concurrency"] is None
    assert check(done, "concurrency as asked")["status"] == "warn"


LIBRARY = """
import gevent
from locust import task, events
from locust.env import Environment
from loadgen import LLMUser, last_result

class Own(LLMUser):
    host = {host!r}

    @task
    def ask(self):
        self.llm.chat("hello", max_tokens=3)

def run(events):
    env = Environment(user_classes=[Own], events=events)
    runner = env.create_local_runner()
    if events is not None:
        env.events.init.fire(environment=env, runner=runner, web_ui=None)
    runner.start(2, spawn_rate=2)
    with gevent.Timeout(60):
        while last_result(env) is None:
            gevent.sleep(0.05)
    runner.quit()
    return last_result(env)

def test_own_users():
    assert run(None).summary.requests.completed == 40

if __name__ == "__main__":
    result = run(events)
    print("result", result.summary.requests.completed, result.folder)
"""


@pytest.mark.parametrize("program", [[], ["-m", "pytest", "-q", "-p", "no:cacheprovider"]], ids=["script", "pytest"])
def test_an_environment_of_a_program_is_measured_as_well(
    tmp_path: Path, server: ScriptServer, program: list[str]
) -> None:
    path = tmp_path / "test_own.py"
    path.write_text(LIBRARY.format(host=server.url))
    options = {"LOADGEN_SAMPLE": "40", "LOADGEN_METRICS": "off", "LOADGEN_RESULTS": str(tmp_path / "results")}
    done = subprocess.run(
        [sys.executable, *program, str(path)],
        cwd=tmp_path,
        env=clean_environment(**options),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert ("1 passed" if program else "result 40") in done.stdout
    assert "deprecated" not in done.stdout
    assert (
        Finished(done.returncode, done.stdout, done.stderr, results=tmp_path / "results").summary["kind"]
        == "throughput"
    )


PROGRAM_SWEEP = """
import gevent
from locust import task
from locust.env import Environment
from loadgen import SweepUser, last_result

class Own(SweepUser):
    host = {host!r}

    @task
    def ask(self):
        self.llm.chat("hello")

env = Environment(user_classes=[Own])
env.create_local_runner().start(4, spawn_rate=4)
with gevent.Timeout(120):
    while last_result(env) is None:
        gevent.sleep(0.05)
env.runner.quit()
summary = last_result(env).summary
print("steps", [step.concurrency for step in summary.steps], "aborted", summary.requests.aborted)
"""


def test_the_steps_of_a_sweep_set_the_users_of_a_program_as_well(tmp_path: Path) -> None:
    options = {"LOADGEN_STEPS": "1,2", "LOADGEN_STEP_TIME": "1", "LOADGEN_RESULTS": str(tmp_path / "results")}
    with serving(answer(5, pause=0.03)) as server:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM_SWEEP.format(host=server.url)],
            cwd=tmp_path,
            env=clean_environment(**options),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    assert "steps [1, 2] aborted 0" in done.stdout, done.stdout + done.stderr


def test_a_single_user_of_a_debugger_is_measured_as_well(tmp_path: Path, server: ScriptServer) -> None:
    source = (
        HEAD
        + f"""
from locust import run_single_user

class Own(LLMUser):
    host, max_tokens = {server.url!r}, 7

    @task
    def ask(self):
        self.llm.chat(self.llm.next_prompt())

class Another(OpenLoopUser):
    tasks = []

run_single_user(Own)
"""
    )
    (tmp_path / "single.py").write_text(source)
    options = {"LOADGEN_SAMPLE": "5", "LOADGEN_METRICS": "off", "LOADGEN_RESULTS": str(tmp_path / "results")}
    done = subprocess.run(
        [sys.executable, "single.py"],
        cwd=tmp_path,
        env=clean_environment(**options),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    left = Finished(0, done.stdout, done.stderr, results=tmp_path / "results")
    assert left.summary["requests"]["completed"] == 5
    assert (left.manifest["host"], left.manifest["scenario"]["max_tokens"]) == (server.url, 7)


def test_a_run_whose_users_have_all_ended_ends_too(tmp_path: Path, server: ScriptServer) -> None:
    source = """
class Leaves(LLMUser):
    def on_start(self):
        raise KeyError("no data for this user")

    @task
    def ask(self):
        self.llm.chat("hello")
"""
    done = run(tmp_path, source, host=server.url)
    assert done.status == 3  # each task of it raised
    assert "users have ended by themselves" in check(done, "run complete")["value"]
    assert "no data for this user" in check(done, "user code")["value"]


def test_nobody_but_a_shape_changes_the_users_of_a_run(tmp_path: Path, server: ScriptServer) -> None:
    """Keys, the web UI's EDIT and programs all end in Runner.start."""
    source = """
class More(LLMUser):
    @task
    def ask(self):
        self.environment.runner.start(9, 9)
        self.llm.chat("hello")
"""
    done = run(tmp_path, source, "--users", "2", "--requests", "40", host=server.url)
    assert {r.user for r in done.records} == {0, 1}
    assert "The number of users cannot be changed during a run" in done.err
    assert done.manifest["users"] == 2


ODD = """
import sys
from locust.exception import StopUser

class Odd(LLMUser):
    asked = 0

    def __init__(self, environment):
        super().__init__(environment)
        CONSTRUCT

    def context(self):
        CONTEXT
        return {"who": self.asked}

    @task
    def ask(self):
        self.asked += 1
        TASK
        self.llm.chat("hello")
"""


@pytest.mark.parametrize(
    ("place", "code", "name", "words"),
    [
        ("TASK", "raise StopUser", "run complete", "users have ended by themselves"),
        ("TASK", "return", "run complete", "tasks ended, and none asked the endpoint"),
        ("TASK", "if self.asked == 4: self.environment.runner.quit()", "run complete", "stopped after"),
        ("TASK", "if self.asked == 4: sys.exit(0)", "user code", "the task called sys.exit(0)"),
        ("TASK", "if self.asked == 4: self.llm.chat('x', name=5)", "user code", "name must be a string, got 5"),
        ("TASK", "if self.asked == 4: self.llm.chat('x', timeout=5)", "user code", "timeout is no field of a request"),
        ("TASK", "if self.asked == 4: self.llm.chat('x', seed=self)", "user code", "seed cannot be sent as JSON"),
        ("CONTEXT", "if self.asked == 4: raise KeyError('who')", "user code", "KeyError: 'who'"),
        ("CONSTRUCT", "raise OSError('no data')", "run complete", "a user could not be started (OSError: no data)"),
    ],
    ids=["leaves", "never asks", "quits", "exits", "name", "no field", "no JSON", "context", "construct"],
)
def test_every_run_ends_with_a_verdict_whatever_the_users_code_does(
    tmp_path: Path, server: ScriptServer, place: str, code: str, name: str, words: str
) -> None:
    source = ODD.replace(place, code)
    for other in ("TASK", "CONTEXT", "CONSTRUCT"):
        source = source.replace(other, "pass")
    done = run(tmp_path, source, "--requests", "30", host=server.url)
    assert done.status in {0, 3, 4}, done.err
    assert words in check(done, name)["value"]


def test_a_run_that_asks_its_own_prompts_does_not_name_the_data_set(tmp_path: Path, server: ScriptServer) -> None:
    source = """
class Own(LLMUser):
    @task
    def ask(self):
        self.llm.chat("hello")
"""
    done = run(tmp_path, source, "--requests", "4", host=server.url)
    assert "prompts: the locustfile's own" in done.out
