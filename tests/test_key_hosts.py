"""Where the API key goes: to the server that it was given for, and where LOADGEN_KEY_HOSTS says; nowhere else."""

from pathlib import Path

from cluster import FEW, Starter, assert_ends_well, assert_refused
from conftest import Locust, free_port
from eavesdropping import KEY, listening
from serving import answer, serving

WITH_KEY = {"OPENAI_API_KEY": KEY}

CHAT_WITH_HOST = """
from locust import task
from loadgen import LLMUser


class Chat(LLMUser):
    host = "{}"

    @task
    def ask(self) -> None:
        self.llm.chat(self.llm.next_prompt())
"""


def test_the_locustfiles_host_is_measured_and_gets_the_key(start: Starter, tmp_path: Path) -> None:
    with listening() as server:
        (tmp_path / "own.py").write_text(CHAT_WITH_HOST.format(server.url))
        few = ("--sample", "2", "--warmup", "0")
        run = start("--headless", *few, locustfile=tmp_path / "own.py", environment=WITH_KEY)
        run.wait()
        assert run.manifest["host"] == server.url
    assert f"Bearer {KEY}".encode() in server.heard


def test_forked_workers_use_the_key_for_the_host_of_the_command_line(start: Starter) -> None:
    with serving(answer(2)) as server:
        run = start.forked(server.url, "--users", "2", *FEW, environment=WITH_KEY)
        assert_ends_well(run)
    assert {request.headers.get("authorization") for request in server.requests} == {f"Bearer {KEY}"}


def test_with_a_key_forked_workers_measure_the_embedded_engine(start: Starter) -> None:
    free = str(free_port())
    ports = ("--master-bind-port", free, "--master-port", free)
    few = ("--sample", "4", "--warmup", "1", "--max-tokens", "4", "--users", "2")
    run = start("--headless", "--processes", "2", *ports, *few, environment=WITH_KEY)
    assert_refused_nothing(run.wait(), run.said)
    assert run.summary["requests"]["completed"] == 4


def assert_refused_nothing(status: int, said: str) -> None:
    assert status in {0, 3, 4}, said  # a verdict, whichever
    assert "cannot take part" not in said


def test_a_worker_with_a_key_and_no_host_does_not_send_it(start: Starter) -> None:
    port = free_port()
    with listening() as server:
        bound = ("--master", "--master-bind-host", "127.0.0.1", "--master-bind-port", str(port))
        master = start("--headless", *bound, "--host", server.url, "--expect-workers", "1", environment=WITH_KEY)
        start.worker("one", port, environment={"OPENAI_API_KEY": "sk-the-workers-own"})
        assert_refused(master, "cannot take part", "OPENAI_API_KEY", "--host", "LOADGEN_KEY_HOSTS")
    assert b"sk-the-workers-own" not in server.heard


def test_a_variable_that_is_not_valid_is_reported_before_anything_is_started(locust: Locust) -> None:
    done = locust("--host", "http://127.0.0.1:1", environment={"LOADGEN_KEY_HOSTS": "http://a:1,http://b:2/v1"})
    assert done.status == 2
    assert "LOADGEN_KEY_HOSTS: 'http://b:2/v1' is not valid" in done.err
