"""The request is the user's: its path, its headers, its body; and what a server refuses of it is understood."""

import json
import re
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cluster import Starter
from conftest import Finished, Locust, free_port, records_of
from launching import Home
from running import run_locustfile
from scraping import url_of
from serving import MODELS, Request, Step, answer, response, serving, stream, token
from test_embedded import children_of
from test_matrix import ONE

from loadgen.record import CountedBy
from loadgen.workload.prompts import read_file

FEW = ("--sample", "3", "--warmup", "1", "--max-tokens", "8", "--no-stream")
SECRET = "sk-Secret0123456789"
TENANT = "tenant-secret-9876"


def whole(_number: int, _request: Request) -> Sequence[Step]:
    said = {"choices": [{"message": {"content": "Yes."}, "finish_reason": "stop"}]}
    return [(0.0, response(json.dumps(said | {"usage": {"prompt_tokens": 3, "completion_tokens": 2}}).encode()))]


def refusing(*fields: str, status: str = "400 Bad Request") -> Callable[[int, Request], Sequence[Step]]:
    """A server that does not know some fields."""

    def script(number: int, request: Request) -> Sequence[Step]:
        for name in fields:
            if name in json.loads(request.body):
                said = {"error": {"message": f"Unsupported parameter: '{name}' is not supported with this model."}}
                return [(0.0, response(json.dumps(said).encode(), status=status))]
        return whole(number, request) if not json.loads(request.body)["stream"] else answer(2)

    return script


def bodies(requests: Sequence[Request]) -> list[dict[str, Any]]:
    return [json.loads(request.body) for request in requests]


def assert_refused(done: Finished, *words: str) -> None:
    assert done.status == 2, done.err
    (sentence,) = [line for line in done.err.splitlines() if line.startswith("loadgen: ")]
    for word in words:
        assert word in sentence
    assert "Traceback" not in done.err + done.out


# What is sent.


def test_headers_body_and_path_are_those_that_were_asked_for(locust: Locust, tmp_path: Path) -> None:
    (tmp_path / "body.json").write_text('{"chat_template_kwargs": {"enable_thinking": false}, "temperature": null}')
    (tmp_path / "tenant").write_text(f"{TENANT}\n")
    with serving(whole) as server:
        done = locust(
            *("--host", f"{server.url}/gateway?api-version=1", "--endpoint", "/chat?flavour=mild", *FEW),
            *("--header", "x-team=blue", "--header", "X-Flavour: mild", "--auth", "api-key"),
            *("--header", f"x-tenant-key=file:{tmp_path}/tenant"),
            *("--extra-body", f"@{tmp_path}/body.json", "--system-prompt", "Be brief.", "--top-p", "0.5"),
            *("--max-tokens-field", "max_completion_tokens"),
            environment={"OPENAI_API_KEY": SECRET},
        )
    done.assert_ended_well()
    assert {request.path for request in server.requests} == {"/gateway/chat?flavour=mild&api-version=1"}
    for request in server.requests:
        assert request.headers["api-key"] == SECRET
        assert "authorization" not in request.headers
        assert (request.headers["x-team"], request.headers["x-flavour"]) == ("blue", "mild")
        assert request.headers["x-tenant-key"] == TENANT
    for body in bodies(server.requests):
        assert body["chat_template_kwargs"] == {"enable_thinking": False}
        assert body["top_p"] == 0.5
        assert "temperature" not in body
        assert "max_tokens" not in body
        assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert {body["max_completion_tokens"] for body in bodies(server.requests)} == {1, 8}
    scenario = json.loads((done.folder / "run.json").read_text())["scenario"]
    assert f"x-tenant-key=file:{tmp_path}/tenant" in scenario["header"]
    assert scenario["system_prompt"].startswith("9 characters, sha256 ")
    for path in (*done.results.rglob("*"), tmp_path / "locust.log"):
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes()
            assert TENANT.encode() not in path.read_bytes()
    assert SECRET not in done.err + done.out
    assert TENANT not in done.err + done.out


def test_fields_of_a_row_go_between_the_options_and_the_extra_body(locust: Locust, tmp_path: Path) -> None:
    row = {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]}
    answered = [*row["messages"], {"role": "assistant", "content": "Because."}]
    rows: list[dict[str, Any]] = [
        row | {"model": "another", "stream": False, "max_completion_tokens": 5, "temperature": 0.7, "seed": 7},
        {"messages": answered, "max_tokens": 6, "top_p": 0.1, "stop": ["."]},
        row | {"stream": True},
        {"prompt": "Plain.", "seed": 9},
    ]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ("--dataset", str(data), "--sample", "4", "--warmup", "0", "--top-p", "0.5", "--max-tokens", "8")
    with serving(whole) as server:
        done = locust("--host", server.url, "--no-stream", *options, "--extra-body", '{"seed": 1, "temperature": null}')
    done.assert_ended_well()
    sent = {body["max_tokens"]: body for body in bodies(server.requests[1:])}
    assert set(sent) == {5, 6, 8}
    assert {body["model"] for body in sent.values()} == {"scripted"}
    assert not [
        body for body in bodies(server.requests) if body["stream"] or "temperature" in body or body["seed"] != 1
    ]
    assert (sent[5]["top_p"], sent[6]["top_p"]) == (0.5, 0.1)
    assert sent[6]["stop"] == ["."]
    assert sent[5]["messages"] == sent[6]["messages"] == row["messages"]
    assert "max_completion_tokens" not in sent[5]
    assert sorted(r.max_tokens or 0 for r in records_of(done.folder)) == [5, 6, 8, 8]
    assert done.manifest["dataset"]["ignored_fields"] == {"model": 1, "stream": 2}
    assert "the field stream is ignored in 2 rows" in done.err
    assert "trailing assistant messages are left out in 1 row" in done.err


def test_users_of_ones_own_send_a_row_with_its_fields(tmp_path: Path) -> None:
    row = {"messages": [{"role": "user", "content": "Why?"}], "max_tokens": 5, "seed": 7}
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for _ in range(4)))
    (tmp_path / "own.py").write_text(
        "from locust import task\nfrom loadgen import LLMUser\n\n\nclass Own(LLMUser):\n    max_tokens = 9\n"
        "    extra_body = {'seed': 3, 'top_k': 1}\n\n    @task\n    def ask(self):\n"
        "        self.llm.chat(self.llm.next_prompt())\n"
    )
    with serving(answer(2)) as server:
        options = ("--dataset", str(data), "--sample", "2", "--warmup", "1", "--users", "1")
        done = run_locustfile(tmp_path, str(tmp_path / "own.py"), "--host", server.url, *options)
    assert done.status in {0, 3}, done.err
    for body in bodies(server.requests[1:]):
        assert (body["max_tokens"], body["seed"], body["top_k"]) == (5, 7, 1)


def test_a_row_keeps_its_fields_among_messages_and_one_of_several_messages_is_passed_alone(tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    (tmp_path / "own.py").write_text(
        "from locust import task\nfrom loadgen import LLMUser\n\n\nclass Own(LLMUser):\n    @task\n    def ask(self):\n"
        "        rules = {'role': 'system', 'content': 'Be brief.'}\n"
        "        self.llm.chat([rules, {'role': 'user', 'content': self.llm.next_prompt()}])\n"
    )
    options = ("--dataset", str(data), "--sample", "2", "--warmup", "0", "--users", "1", "--run-time", "5s")
    question = {"role": "user", "content": "Why?"}
    with serving(answer(2)) as server:
        data.write_text((json.dumps({"messages": [question], "max_tokens": 5, "seed": 7}) + "\n") * 3)
        done = run_locustfile(tmp_path, str(tmp_path / "own.py"), "--host", server.url, *options, "--requests", "2")
        assert done.status in {0, 3}, done.err
        assert {(body["max_tokens"], body["seed"]) for body in bodies(server.requests[1:])} == {(5, 7)}
        assert [m["role"] for m in bodies(server.requests)[-1]["messages"]] == ["system", "user"]
        data.write_text((json.dumps({"messages": [question | {"role": "system"}, question]}) + "\n") * 3)
        several = run_locustfile(tmp_path, str(tmp_path / "own.py"), "--host", server.url, *options)
    assert "has several messages: pass next_prompt() alone" in several.err


@contextmanager
def slow_list(seconds: Sequence[float]) -> Iterator[str]:
    """A server that takes so long to list its models, each time; then it is quick. It answers questions at once."""
    pauses = iter(seconds)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            time.sleep(next(pauses, 0.0))
            with suppress(OSError):
                self.wfile.write(response(MODELS))

        def do_POST(self) -> None:
            request = Request("POST", self.path, {}, self.rfile.read(int(self.headers["Content-Length"])))
            self.wfile.write(whole(0, request)[0][1])

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_server_that_accepts_and_says_nothing_is_named_or_waited_for(locust: Locust) -> None:
    with slow_list([3.0]) as host:
        done = locust("--host", host, *FEW, "--first-byte-timeout", "0.5")
    assert_refused(done, "connected, but no answer to GET /v1/models within 0.5 s", "--wait-ready 600")
    assert "--total-timeout" not in done.err
    with slow_list([3.0, 3.0]) as host:
        waited = locust("--host", host, *FEW, "--first-byte-timeout", "0.5", "--wait-ready", "60")
    assert waited.status in {0, 3}, waited.err
    assert "Waiting up to 60 s for the server" in waited.err


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"messages": "Why?"}, '"messages" must be a list'),
        ({"messages": [{"role": "user"}]}, '"role" and "content" of a message must be strings'),
        ({"messages": [{"role": "assistant", "content": "Because."}]}, '"messages" has no user message with text'),
        ({"messages": [{"role": "user", "content": "\ud83d"}]}, "unpaired surrogate"),
        ({"messages": [{"role": "user", "content": "?"}], "max_tokens": 0}, "max_tokens must be a whole number"),
        ({"messages": [{"role": "user", "content": "?"}], "temperature": "hot"}, "temperature must be a number"),
        ({"messages": [{"role": "user", "content": "?"}], "stop": [1]}, "stop must be a text or a list of texts"),
        ({"messages": [{"role": "user", "content": "?"}], "temperature": 10**400}, "temperature must be a number"),
        ({"messages": [{"role": "user", "content": "?"}], "seed": float("nan")}, "seed cannot be sent"),
        ({"messages": [{"role": "user", "content": "?"}], "suffix": "\ud83d"}, "suffix cannot be sent"),
        (
            {"messages": [{"role": "user", "content": "?", "tool_calls": []}]},
            "tool_calls of a message is not",
        ),
    ],
)
def test_a_row_that_no_request_can_be_made_of_is_named(tmp_path: Path, row: dict[str, Any], words: str) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text('{"prompt": "fine"}\n' + json.dumps(row) + "\n")
    with pytest.raises(ValueError, match=re.escape(f"{data}, line 2: ")) as raised:
        read_file(data, "rows")
    assert words in str(raised.value)


def test_headers_reach_the_list_of_models_and_the_openai_sdk(locust: Locust) -> None:
    with serving(whole, keep_open=True) as server:  # the SDK keeps connections, and one that is being closed fails
        for client in ("own", "openai"):
            done = locust(
                *("--host", server.url, *FEW, "--client", client, "--header", "x-team: blue", "--auth", "x-api-key"),
                environment={"OPENAI_API_KEY": SECRET},
            )
            done.assert_ended_well()
    asked = [request.headers for request in server.requests]
    assert len(asked) == 2 * 5
    assert {headers["x-team"] for headers in asked} == {"blue"}
    assert {headers["x-api-key"] for headers in asked} == {SECRET}
    assert not [headers for headers in asked if "authorization" in headers]


def test_workers_resolve_the_references_of_their_master_themselves(start: Starter) -> None:
    port = free_port()
    with serving(whole) as server:
        common = ("--host", server.url)
        run = start.master(
            *(port, *common, "--expect-workers", "1", *FEW, "--users", "1"),
            *("--header", "x-tenant-key=env:TENANT", "--header", "x-team=blue", "--extra-body", '{"seed": 7}'),
            environment={"TENANT": "masters-own-value"},
        )
        one = start.worker("one", port, *common, environment={"TENANT": TENANT})
        assert run.wait() == 0, run.said
        assert one.wait() == 0, one.said
    measured = server.requests[-3:]
    assert {request.headers["x-tenant-key"] for request in measured} == {TENANT}
    assert {request.headers["x-team"] for request in measured} == {"blue"}
    assert {body["seed"] for body in bodies(server.requests)} == {7}


def test_a_worker_sends_its_secrets_to_no_host_that_it_was_not_told(start: Starter) -> None:
    port = free_port()
    with serving(whole) as server:
        run = start.master(
            *(port, "--host", server.url, "--expect-workers", "1", *FEW, "--users", "1"),
            *("--header", "x-tenant-key=env:TENANT"),
            environment={"TENANT": "masters-own-value"},
        )
        start.worker("one", port, environment={"TENANT": TENANT})
        assert run.wait() == 2, run.said
    assert "x-tenant-key of --header is not sent there" in run.said
    assert TENANT not in str([request.headers for request in server.requests])


# What is refused.


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--header", f"Authorization=Bearer {SECRET}"), ("--header: the value of Authorization", "env:VARIABLE")),
        (("--header", f"x-api-token: {SECRET}"), ("x-api-token=env:VARIABLE",)),
        (("--header", "x-tenant-key=env:NO_SUCH"), ("--header x-tenant-key", "NO_SUCH is not set")),
        (("--header", "x-tenant-key=file:/nowhere"), ("--header x-tenant-key", "cannot read /nowhere")),
        (("--header", "nonsense"), ("--header: write NAME=VALUE",)),
        (("--header", "Content-Length=7"), ("Content-Length is set for each request",)),
        (("--auth", "basic"), ("--auth must be one of bearer, api-key, x-api-key, none",)),
        (("--endpoint", "chat"), ("--endpoint: a path must begin with /",)),
        (("--endpoint", f"/chat?key={SECRET}"), ("--endpoint: key in its query", "--header")),
        (("--extra-body", "[1]"), ("--extra-body: a JSON object is needed",)),
        (("--extra-body", "@/nowhere.json"), ("--extra-body: cannot read /nowhere.json",)),
        (("--extra-body", '{"model": "x"}'), ("--extra-body: model is set by --model",)),
        (("--extra-body", '{"max_tokens": 4}'), ("--extra-body: max_tokens is set by --max-tokens",)),
        (
            ("--extra-body", f'{{"a": [{{"api_key": "{SECRET}"}}]}}'),
            ("--extra-body: the value of api_key",),
        ),
        (("--header", f"x-flavour={SECRET}"), ("--header: the value of x-flavour", "x-flavour=env:VARIABLE")),
        (("--header", "x tenant=blue"), ("a name has no spaces",)),
        (("--extra-body", "body.json"), ("--extra-body: a JSON object is needed, or @FILE",)),
        (("--max-tokens-field", "limit"), ("--max-tokens-field must be one of",)),
        (("--top-p", "2"), ("--top-p must be above 0 and at most 1",)),
        (("--proxy", f"http://user:{SECRET}@h"), ("--proxy: no credentials here", "write 'env' here")),
        (("--proxy", "http://10.0.0.1:3128"), ("--proxy: 127.0.0.1 is this machine",)),
        (("--client-key", "key.pem"), ("--client-key needs --client-cert",)),
    ],
    ids=lambda value: " ".join(value)[:40].replace(SECRET, "...") if isinstance(value, tuple) else "",
)
def test_a_mistake_is_named_without_its_secret(
    locust: Locust, options: tuple[str, ...], words: tuple[str, ...]
) -> None:
    with serving(whole) as server:
        done = locust("--host", server.url, *FEW, *options)
    assert_refused(done, *words)
    assert SECRET not in done.err + done.out
    assert not done.results.exists()


def test_a_query_with_a_secret_is_refused(locust: Locust) -> None:
    done = locust("--host", f"http://127.0.0.1:1/v1?api_key={SECRET}", *FEW)
    assert_refused(done, "--host", "would show in process lists")
    assert SECRET not in done.err


# What a server refuses.


def test_the_other_name_of_the_limit_is_found_and_told(locust: Locust) -> None:
    with serving(refusing("max_tokens")) as server:
        done = locust("--host", server.url, *FEW)
    done.assert_ended_well()
    assert "The server refuses max_tokens: answers are limited by max_completion_tokens." in done.err
    assert {"max_completion_tokens" in body for body in bodies(server.requests)[1:]} == {True}
    manifest = json.loads((done.folder / "run.json").read_text())
    assert manifest["scenario"]["max_tokens_field"] == "max_completion_tokens"
    assert len(manifest["server"]["adapted"]) == 1


def test_a_name_of_the_limit_that_was_chosen_stays(locust: Locust) -> None:
    with serving(refusing("max_tokens")) as server:
        done = locust("--host", server.url, *FEW, "--max-tokens-field", "max_tokens")
    assert_refused(done, "the server refuses the field max_tokens", "--extra-body")


def test_another_field_that_is_refused_is_named_with_the_way_to_leave_it_out(locust: Locust) -> None:
    with serving(refusing("temperature", status="422 Unprocessable Entity")) as server:
        done = locust("--host", server.url, *FEW)
        assert_refused(done, "refuses the field temperature", """--extra-body '{"temperature": null}'""")
        locust("--host", server.url, *FEW, "--extra-body", '{"temperature": null}').assert_ended_well()


def test_stream_options_are_left_out_where_usage_comes_all_the_same(locust: Locust) -> None:
    streamed = FEW[:-1]
    with serving(refusing("stream_options")) as server:
        done = locust("--host", server.url, *streamed)
    done.assert_ended_well()
    assert "refuses stream_options: it is left out" in done.err
    assert {r.counted_by for r in records_of(done.folder)} == {CountedBy.USAGE}

    def without_usage(number: int, request: Request) -> Sequence[Step]:
        if "stream_options" in json.loads(request.body):
            return refusing("stream_options")(number, request)
        return stream(token("a"), token("b", "stop"))

    with serving(without_usage) as server:
        done = locust("--host", server.url, *streamed)
    assert_refused(done, "refuses stream_options", "--tokenizer", '{"stream_options":null}')


def test_a_403_is_quoted_and_no_cause_guessed(locust: Locust) -> None:
    forbidden = response(b"upstream connect error", status="403 Forbidden", kind="text/plain")
    with serving([(0.0, forbidden)]) as server:
        done = locust("--host", server.url, *FEW)
    assert_refused(done, "HTTP 403: upstream connect error", "No key was sent")
    assert "wants a key" not in done.err


# A server that loads.


def loading_until(ready_at: int) -> Callable[[int, Request], Sequence[Step]]:
    def script(number: int, request: Request) -> Sequence[Step]:
        if number < ready_at:
            return [(0.0, response(b'{"error":{"message":"Loading model"}}', status="503 Service Unavailable"))]
        return whole(number, request)

    return script


def test_a_server_that_is_loading_is_named_as_such_or_waited_for(locust: Locust) -> None:
    with serving(loading_until(1_000)) as server:
        assert_refused(locust("--host", server.url, *FEW), "is not ready", "Loading model", "--wait-ready")
    everywhere = response(b'{"error":{"message":"Loading model"}}', status="503 Service Unavailable")
    with serving(loading_until(1_000), models=everywhere) as server:
        assert_refused(locust("--host", server.url, *FEW), "is not ready", "Loading model", "--wait-ready")
    with serving(loading_until(2)) as server:
        done = locust("--host", server.url, *FEW, "--wait-ready", "60")
    done.assert_ended_well()
    assert len(re.findall("Waiting up to 60 s for the server: HTTP 503: Loading model", done.err)) == 1


def test_a_warm_up_that_failed_entirely_ends_the_run_before_it_uses_up_the_sample(locust: Locust) -> None:
    def script(number: int, request: Request) -> Sequence[Step]:
        return whole(number, request) if number == 0 else [(0.0, response(b"busy", status="503 Service Unavailable"))]

    with serving(script, models=response(MODELS)) as server:
        done = locust("--host", server.url, "--sample", "20", "--warmup", "3", "--no-stream")
    assert done.status in {3, 4}
    assert len(server.requests) == 4
    assert "all 3 requests of the warm-up failed: HTTP 503: busy" in done.err + done.out


def test_a_column_of_a_matrix_has_a_request_of_its_own(home: Home) -> None:
    with serving(whole) as server:
        text = ONE.replace("./mine.py", "elsewhere").replace("tiny-llama", "m").replace("warmup = 2", "warmup = 0")
        text += f'[model.m]\nsource = "me/m"\n[engine.elsewhere]\nengine = "endpoint"\nhost = "{server.url}"\n'
        text += 'model = "m"\nheader = ["x-team=blue", "x-tenant-key=env:TENANT"]\nendpoint = "/chat"\n'
        text += 'extra_body = {reasoning = {effort = "low"}}\n'
        (home.folder / "matrix.toml").write_text(text)
        home.more = {"TENANT": TENANT}
        home.assert_ended_well(home.loadgen("matrix", "matrix.toml"))
    assert {request.path for request in server.requests} == {"/chat"}
    assert {request.headers["x-tenant-key"] for request in server.requests} == {TENANT}
    assert {request.headers["x-team"] for request in server.requests} == {"blue"}
    assert {body["reasoning"]["effort"] for body in bodies(server.requests)} == {"low"}
    for path in home.folder.rglob("*"):
        assert not path.is_file() or TENANT.encode() not in path.read_bytes()


def test_a_key_of_a_column_that_no_request_can_have_is_named(home: Home) -> None:
    text = ONE.replace("./mine.py", "elsewhere").replace("tiny-llama", "m")
    text += '[model.m]\nsource = "me/m"\n[engine.elsewhere]\nengine = "endpoint"\nhost = "http://h"\nauth = "basic"\n'
    (home.folder / "matrix.toml").write_text(text)
    done = home.loadgen("matrix", "matrix.toml", "--dry-run")
    assert done.returncode == 2
    assert "engine 'elsewhere': --auth must be one of" in done.stderr


def test_no_secret_is_on_a_page_in_a_metric_or_in_a_process_list(start: Starter) -> None:
    port = free_port()
    web = ("--web-host", "127.0.0.1", "--web-port", str(port), "--autostart", "--autoquit", "60", "--users", "1")
    with serving(stream(*[token("a")] * 4, token("b", "stop"), pause=0.02)) as server:
        run = start(
            *(*web, "--host", server.url, *FEW[:-1], "--requests", "100000", "--metrics", "127.0.0.1:0"),
            *("--header", "x-tenant-key=env:TENANT", "--header", "Authorization=Bearer env:TENANT"),
            environment={"TENANT": TENANT, "OPENAI_API_KEY": SECRET},
        )
        due = time.monotonic() + 120
        while not any(b'"measure"' in path.read_bytes() for path in run.results.glob("*/records-0.jsonl")):
            assert time.monotonic() < due, run.said
            time.sleep(0.05)
        pages = [f"http://127.0.0.1:{port}{path}" for path in ("/", "/llm", "/llm/data", "/stats/requests", "/logs")]
        texts = [fetched(url) for url in (*pages, url_of(run))]
        processes = [Path(f"/proc/{pid}") for pid in (run.process.pid, *children_of(run.process.pid))]
        texts += [(process / "cmdline").read_text() for process in processes]
        children = [(process / "environ").read_bytes() for process in processes[1:]]
    assert {request.headers["authorization"] for request in server.requests} == {f"Bearer {TENANT}"}
    assert len(children) == 1  # the exporter
    assert not [text for text in texts if TENANT in text or SECRET in text]
    assert not [variables for variables in children if TENANT.encode() in variables or SECRET.encode() in variables]


def fetched(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as reply:
        text: str = reply.read().decode()
        return text
