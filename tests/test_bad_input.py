"""Mistakes of the user's: found before the first request, named with the way out, exit status 2, nothing left."""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Locust
from serving import answer, response, serving


def refused(done: Any, *words: str) -> None:
    assert done.status == 2, done.err
    message = "".join(line for line in done.err.splitlines(keepends=True) if line.startswith("loadgen: "))
    for word in words:
        assert word in message, done.err
    assert "Traceback" not in done.err + done.out
    assert not done.results.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--dataset", "nope"], ["--dataset", "'nope'", "lima"]),
        (["--dataset", "missing.jsonl"], ["--dataset", "missing.jsonl does not exist"]),
        (["--dataset", "lima"], ["--dataset lima", "HF_TOKEN", "gated"]),
        (["--sample", "176"], ["--sample 176", "175"]),
        (["--host", "localhost:8000"], ["--host", "write http://localhost:8000"]),
        (["--host", "http://127.0.0.1:1"], ["--host http://127.0.0.1:1", "refused", "running"]),
        (["--host", "http://nowhere.invalid"], ["--host", "cannot resolve nowhere.invalid"]),
        (["--client", "openai", "--keep-alive"], ["--keep-alive", "Drop one"]),
        (["--engine", "nope"], ["--engine", "vllm"]),
        (["--engine", "vllm"], ["--engine vllm needs --host"]),
        (["--results", "/proc/nothing"], ["--results /proc/nothing", "cannot write"]),
        (["--host", ""], ["--host is empty"]),
        (["--run-time", "0s"], ["--run-time must be above 0"]),
        (["--total-timeout", "inf"], ["--total-timeout"]),
        (["--processes", "2"], ["--processes 2", "--users 1", "each process needs a user"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_mistake_is_named_with_its_flag_and_the_way_out(
    locust: Locust, arguments: list[str], words: list[str]
) -> None:
    refused(locust(*arguments), *words)


def test_less_than_one_user_is_refused(locust: Locust) -> None:
    for users in (0, -1):
        refused(locust(users=users), "--users must be at least 1")


def test_a_tls_port_and_a_plain_one_are_told_apart(locust: Locust) -> None:
    with serving([(0, b"")], models=b"") as server:
        done = locust("--host", server.url.replace("http:", "https:"), "--first-byte-timeout", "2")
    refused(done, "--host https://")


def test_an_authority_that_cannot_be_read_is_named(locust: Locust) -> None:
    done = locust("--host", "https://127.0.0.1:1", environment={"SSL_CERT_FILE": "/nowhere.pem"})
    refused(done, "SSL_CERT_FILE: cannot read /nowhere.pem")


def test_a_malformed_line_is_named(locust: Locust, tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "a"}\n{"prompt": \n')
    refused(locust("--dataset", "p.jsonl"), "--dataset", "p.jsonl, line 2")


def test_a_results_folder_that_is_a_file_is_refused(locust: Locust, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused(locust("--results", str(tmp_path / "file")), "--results", "is not a folder")


def test_the_servers_message_about_a_wrong_model_is_shown(locust: Locust) -> None:
    body = json.dumps({"error": {"message": "The model `gpt-9` does not exist.", "code": 404}}).encode()
    with serving([(0, response(body, status="404 Not Found"))]) as server:
        done = locust("--host", server.url, "--model", "gpt-9")
        assert len(server.requests) == 1
    refused(done, "The model `gpt-9` does not exist.", "--model")


def test_a_missing_key_and_a_wrong_one_are_told_apart(locust: Locust) -> None:
    denied = response(b'{"error":{"message":"no"}}', status="401 Unauthorized")
    with serving([(0, denied)], models=denied) as server:
        refused(locust("--host", server.url), "wants a key", "OPENAI_API_KEY")
        refused(locust("--host", server.url, "--model", "m"), "wants a key")
        done = locust("--host", server.url, "--model", "m", environment={"OPENAI_API_KEY": "sk-wrong"})
    refused(done, "does not accept the key")
    assert "sk-wrong" not in done.err


def test_a_server_that_lists_no_model_needs_one_named(locust: Locust) -> None:
    with serving(answer(), models=response(b"{}", status="404 Not Found")) as server:
        refused(locust("--host", server.url), "--model is needed")


def test_a_port_that_speaks_something_else_is_refused(locust: Locust) -> None:
    with serving([(0, b"")], models=b"220 smtp.example.com ESMTP\r\n") as server:
        refused(locust("--host", server.url), "--host", "does not speak HTTP")


def test_a_busy_server_is_no_mistake(locust: Locust) -> None:
    busy = response(b"", status="503 Service Unavailable")
    with serving([(0, busy)]) as server:
        done = locust("--host", server.url, "--sample", "2", "--warmup", "0")
    assert done.status == 3
    assert done.summary["requests"]["by_error"] == {"http_5xx": 2}
