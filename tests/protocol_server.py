"""Servers that speak as engines do that need a GPU or a container: a program, started by their own command lines.

    protocol_server.py NAME PORT WORD...

The words are those that follow the image's name, or the module's; one that the engine does not know ends it, as it
would end the engine. Routes, refusals, streams and names of metrics are of the sources that are named beside them. It
counts tokens by the tokenizer in the folder that PROTOCOL_SERVER_MODEL names, and answers with one word, as often as is
asked. What it was asked is kept as a line of JSON in the file that PROTOCOL_SERVER_RECORD names.
"""

import argparse
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from loadgen.models.table import MODELS
from loadgen.models.template import render_chat, template_text

Json = dict[str, Any]

TOKEN_S = 0.001
"""From one token of an answer to the next."""


class Refused(Exception):  # noqa: N818 the engine's answer, not a fault
    """A request that the engine does not take."""

    def __init__(self, status: int, body: Json) -> None:
        super().__init__(status)
        self.status, self.body = status, body


@dataclass
class State:
    """What a server has done."""

    started: argparse.Namespace
    prompt_tokens: int = 0
    output_tokens: int = 0
    requests: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, given: int, made: int) -> None:
        with self.lock:
            self.requests += 1
            self.prompt_tokens += given
            self.output_tokens += made


@dataclass(frozen=True)
class Engine:
    """How one engine speaks."""

    arguments: Callable[[argparse.ArgumentParser], None]
    chat: "Callable[[State, Json, str], Answer]"
    """From what it was started with, a request and its route to an answer; raises Refused."""
    posts: tuple[str, ...] = ("/v1/chat/completions",)
    gets: Mapping[str, Callable[[State], object]] = field(default_factory=dict)
    """Routes that are not the model's: JSON, or text."""
    metrics: Mapping[str, str] = field(default_factory=dict)
    """Their names, for prompt tokens, output tokens and requests."""
    metrics_path: str = "/metrics"
    missing: object = "Not Found"
    """What it says of routes that it does not have."""


@dataclass(frozen=True)
class Answer:
    """What is sent back, in the engine's own bytes."""

    whole: Json | None = None
    events: Iterator[str] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    compact: bool = True


def words(number: int) -> list[str]:
    """The tokens of an answer: each is one to any tokenizer that knows English."""
    return [" the"] * number


_TOKENIZER = Tokenizer.from_file(str(Path(os.environ["PROTOCOL_SERVER_MODEL"]) / "tokenizer.json"))


def tokens_of(text: str) -> int:
    """Count the tokens of a prompt that is text: BOS is put in front."""
    return len(_TOKENIZER.encode(text).ids)


def tokens_of_chat(body: Json, template: str | None) -> int:
    """Count the tokens of a chat, made into text by a template, which has BOS itself."""
    messages = body["messages"]
    if template is None:
        return tokens_of(str(messages[-1]["content"]))
    return len(_TOKENIZER.encode(render_chat(template, messages, "<s>"), add_special_tokens=False).ids)


def template_in(folder: str, *, file: bool = True) -> str | None:
    """The chat template that an engine finds in a model's folder."""
    path = Path(folder) / "chat_template.jinja"
    if file and path.is_file():
        return path.read_text()
    config = json.loads((Path(folder) / "tokenizer_config.json").read_text())
    return str(config["chat_template"]) if "chat_template" in config else None


def streamed(chunks: Sequence[Json], *, separators: tuple[str, str] = (",", ":"), done: bool = True) -> Iterator[str]:
    """Events with these chunks, the tokens among them at their pace."""
    for chunk in chunks:
        if any(c["delta"].get("content") for c in chunk.get("choices", ())):
            time.sleep(TOKEN_S)
        yield "data: " + json.dumps(chunk, separators=separators) + "\n\n"
    if done:
        yield "data: [DONE]\n\n"


def chunk(of: Json, delta: Json, finish: str | None = None, **more: Any) -> Json:
    """One chunk of a chat stream."""
    return {**of, "choices": [{"index": 0, "delta": delta, **more, "finish_reason": finish}]}


def usage(given: int, made: int) -> Json:
    return {"prompt_tokens": given, "total_tokens": given + made, "completion_tokens": made}


def head(name: str, model: str) -> Json:
    return {"id": f"{name}-1", "object": "chat.completion.chunk", "created": 1795636523, "model": model}


def whole(name: str, model: str, text: str, given: int, made: int) -> Json:
    """A chat answer that is not streamed."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "length"}
    found = head(name, model) | {"object": "chat.completion", "choices": [choice]}
    return found | {"usage": usage(given, made)}


# vLLM 0.1.3: vllm/entrypoints/openai/{api_server,protocol}.py; pydantic 1 leaves unknown fields aside.


def vllm_0_1_3_arguments(parser: argparse.ArgumentParser) -> None:
    for name in ("--model", "--host", "--port", "--served-model-name", "--tensor-parallel-size", "--seed"):
        parser.add_argument(name)
    for name in ("--trust-remote-code", "--use-dummy-weights", "--disable-log-requests"):
        parser.add_argument(name, action="store_true")


def vllm_0_1_3(state: State, body: Json, _path: str) -> Answer:
    if body["model"] != state.started.served_model_name:
        error = {"message": f"The model `{body['model']}` does not exist.", "type": "invalid_request_error"}
        raise Refused(404, {"object": "error", **error, "param": None, "code": None})
    # fastchat.model.model_adapter.get_conversation_template, by the served name.
    known = MODELS.get(body["model"].replace("llama-2", "llama2"))
    assert known is not None
    assert known.template is not None
    text = render_chat(template_text(known.template), body["messages"])
    given, made = tokens_of(text), body.get("max_tokens", 16)
    state.count(given, made)
    of = head("cmpl", body["model"])
    if not body.get("stream"):
        return Answer(whole("cmpl", body["model"], "".join(words(made)), given, made), compact=True)
    chunks = [chunk(of, {"role": "assistant"}), *(chunk(of, {"content": word}) for word in words(made))]
    return Answer(events=streamed([*chunks, chunk(of, {}, "length")], separators=(", ", ": ")))


# TGI 1.0.1: router/src/{server,lib,validation}.rs.


def tgi_1_0_1_arguments(parser: argparse.ArgumentParser) -> None:
    names = ("model-id", "num-shard", "dtype", "max-input-length", "max-total-tokens", "max-batch-prefill-tokens")
    for name in names:
        parser.add_argument(f"--{name}")
    parser.add_argument("--trust-remote-code", action="store_true")


def tgi_1_0_1(state: State, body: Json, path: str) -> Answer:
    def refuse(message: str) -> Refused:
        return Refused(422, {"error": f"Input validation error: {message}", "error_type": "validation"})

    parameters, text = body["parameters"], body["inputs"]
    given, made = tokens_of(text), parameters.get("max_new_tokens", 20)
    if parameters.get("temperature") == 0:
        raise refuse("`temperature` must be strictly positive")
    if len(parameters.get("stop", ())) > 4:
        raise refuse("`stop` supports up to 4 stop sequences")
    if given > int(state.started.max_input_length) or given + made > int(state.started.max_total_tokens):
        raise refuse("`inputs` tokens + `max_new_tokens` must be <= the limit")
    state.count(given, made)
    details = {"finish_reason": "length", "generated_tokens": made, "prefill": [], "seed": None, "tokens": []}
    wanted = details if parameters.get("details") else None
    if path == "/generate":
        headers = {"x-compute-type": "gpu+optimized", "x-total-time": "9", "x-time-per-token": "1"}
        return Answer({"generated_text": "".join(words(made)), "details": wanted}, headers=headers)
    return Answer(events=_tgi_events(made, wanted))


def _tgi_events(made: int, details: Json | None) -> Iterator[str]:
    said = {key: details[key] for key in ("finish_reason", "generated_tokens", "seed")} if details else None
    for index, word in enumerate(words(made)):
        time.sleep(TOKEN_S)
        token = {"id": index, "text": word, "logprob": -1.0, "special": False}
        last = index == made - 1
        text, about = ("".join(words(made)), said) if last else (None, None)
        event = {"token": token, "generated_text": text, "details": about}
        yield "data:" + json.dumps(event, separators=(",", ":")) + "\n\n"


def tgi_1_0_1_info(state: State) -> object:
    return {"model_id": state.started.model_id, "model_dtype": "torch.float16", "version": "1.0.1"}


# TGI 3.3.7: router/src/{server,lib,chat}.rs. Templates are in tokenizer_config.json; unknown fields are left aside.


def tgi_arguments(parser: argparse.ArgumentParser) -> None:
    for name in ("model-id", "num-shard", "dtype", "port", "max-input-tokens", "max-total-tokens", "usage-stats"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--trust-remote-code", action="store_true")


def tgi(state: State, body: Json, _path: str) -> Answer:
    if not isinstance(body.get("stop", []), list) or len(body.get("stop", [])) > 4:
        raise Refused(422, {"error": "Input validation error: `stop`", "error_type": "validation"})
    if body["model"] != "tgi":
        raise Refused(424, {"error": f"Adapter {body['model']} not found", "error_type": "adapter"})
    given = tokens_of_chat(body, template_in(state.started.model_id, file=False))
    made = body.get("max_tokens", 100)
    state.count(given, made)
    of = head("", state.started.model_id) | {"id": "", "system_fingerprint": "3.3.7-native"}
    if not body.get("stream"):
        return Answer(whole("", state.started.model_id, "".join(words(made)), given, made))
    last = made - 1
    chunks = [
        chunk(of, {"role": "assistant", "content": word}, "length" if i == last else None, logprobs=None)
        | {"usage": None}
        for i, word in enumerate(words(made))
    ]
    if (body.get("stream_options") or {}).get("include_usage"):
        chunks.append({**of, "choices": [], "usage": usage(given, made)})
    return Answer(events=streamed(chunks))


def tgi_info(state: State) -> object:
    return {"model_id": state.started.model_id, "max_total_tokens": 2048, "version": "3.3.7"}


# SGLang 0.5.23: srt/entrypoints/{http_server.py,openai/protocol.py}.


def sglang_arguments(parser: argparse.ArgumentParser) -> None:
    names = ("model-path", "served-model-name", "host", "port", "dtype", "context-length", "random-seed", "tp-size")
    for name in (*names, "load-format", "sampling-defaults"):
        parser.add_argument(f"--{name}")
    for name in ("disable-radix-cache", "enable-metrics", "trust-remote-code"):
        parser.add_argument(f"--{name}", action="store_true")


def sglang(state: State, body: Json, _path: str) -> Answer:
    given = tokens_of_chat(body, template_in(state.started.model_path))
    made = body.get("max_tokens", 64)
    state.count(given, made)
    of = head("sgl", body["model"])
    if not body.get("stream"):
        return Answer(whole("sgl", body["model"], "".join(words(made)), given, made))
    nothing = {"reasoning_content": None, "tool_calls": None}
    more = {"logprobs": None, "matched_stop": None}
    chunks = [chunk(of, {"role": "assistant", "content": "", **nothing}, **more) | {"usage": None}]
    chunks += [chunk(of, {"role": None, "content": w, **nothing}, **more) | {"usage": None} for w in words(made)]
    chunks.append(chunk(of, {"role": None, "content": None, **nothing}, "length", **more) | {"usage": None})
    if (body.get("stream_options") or {}).get("include_usage"):
        chunks.append({**of, "choices": [], "usage": usage(given, made)})
    return Answer(events=streamed(chunks))


def generates(state: State) -> object:
    """SGLang's /health: a request of its own."""
    state.count(1, 1)
    return ""


# LMDeploy 0.18.0: lmdeploy/{cli/serve.py,serve/openai/}.


def lmdeploy_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("serve", choices=["serve"])
    parser.add_argument("api_server", choices=["api_server"])
    parser.add_argument("model")
    names = ("model-name", "server-name", "server-port", "tp", "session-len", "generation-config")
    for name in names:
        parser.add_argument(f"--{name}")
    parser.add_argument("--backend", choices=["turbomind", "pytorch"])
    parser.add_argument("--dtype", choices=["auto", "float16", "bfloat16"])
    parser.add_argument("--chat-template", choices=["hf", "vicuna", "llama2", "base"])
    parser.add_argument("--trust-remote-code", action="store_true")


def lmdeploy(state: State, body: Json, _path: str) -> Answer:
    given = tokens_of_chat(body, template_in(state.started.model))
    made = body.get("max_tokens", 64)
    state.count(given, made)
    of = head("", body["model"]) | {"id": "1"}
    if not body.get("stream"):
        return Answer(whole("lm", body["model"], "".join(words(made)), given, made))
    more = {"reasoning_content": None, "tool_calls": None}
    chunks = [
        chunk(of, {"role": "assistant", "content": word, **more}, logprobs=None) | {"usage": None}
        for word in words(made)
    ]
    chunks.append(chunk(of, {"role": "assistant", "content": "", **more}, "length", logprobs=None) | {"usage": None})
    if (body.get("stream_options") or {}).get("include_usage"):
        chunks.append({**of, "choices": [], "usage": usage(given, made)})
    return Answer(events=streamed(chunks))


# TensorRT-LLM 1.2: tensorrt_llm/{commands/serve.py,serve/openai_{server,protocol}.py}. Fields that it does not know are
# refused, and so is stream_options without a stream.


def tensorrt_llm_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model")
    for name in ("backend", "host", "port", "tp_size", "max_seq_len", "extra_llm_api_options"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--trust_remote_code", action="store_true")


_TENSORRT_FIELDS = {"model", "messages", "max_tokens", "temperature", "stream", "stream_options", "stop", "ignore_eos"}


def tensorrt_llm(state: State, body: Json, _path: str) -> Answer:
    if unknown := set(body) - _TENSORRT_FIELDS - {"min_tokens", "seed", "top_p"}:
        raise Refused(400, {"object": "error", "message": f"Extra inputs are not permitted: {unknown}", "code": 400})
    if "stream_options" in body and not body.get("stream"):
        raise Refused(400, {"object": "error", "message": "Stream options need a stream", "code": 400})
    given = tokens_of_chat(body, template_in(state.started.model))
    made = body.get("max_tokens", 64)
    state.count(given, made)
    of = head("chatcmpl", Path(state.started.model).name)
    if not body.get("stream"):
        return Answer(whole("chatcmpl", of["model"], "".join(words(made)), given, made))
    more = {"reasoning_content": None, "tool_calls": []}
    chunks = [chunk(of, {"role": "assistant", "content": "", **more}, logprobs=None) | {"usage": None}]
    last = made - 1
    chunks += [
        chunk(of, {"role": None, "content": word, **more}, "length" if i == last else None, logprobs=None)
        for i, word in enumerate(words(made))
    ]
    if (body.get("stream_options") or {}).get("include_usage"):
        chunks.append({**of, "choices": [], "usage": usage(given, made)})
    return Answer(events=streamed(chunks))


# Ollama 0.33: openai/openai.go, middleware/openai.go. Fields that it does not know it leaves aside.


def ollama_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name")
    parser.add_argument("modelfile")


def ollama(state: State, body: Json, _path: str) -> Answer:
    text = Path(state.started.modelfile).read_text()
    around = text.partition('TEMPLATE """')[2].partition('"""')[0] or "{{ .Prompt }}"
    given = tokens_of(around.replace("{{ .Prompt }}", body["messages"][-1]["content"]))
    made = body.get("max_tokens", 64)
    state.count(given, made)
    of = head("chatcmpl", body["model"]) | {"system_fingerprint": "fp_ollama"}
    if not body.get("stream"):
        return Answer(whole("chatcmpl", body["model"], "".join(words(made)), given, made))
    first, *rest = words(made)
    chunks = [chunk(of, {"role": "assistant", "content": first}), *(chunk(of, {"content": word}) for word in rest)]
    chunks.append(chunk(of, {}, "length"))
    if (body.get("stream_options") or {}).get("include_usage"):
        chunks.append({**of, "choices": [], "usage": usage(given, made)})
    return Answer(events=streamed(chunks))


def named(*tokens: str) -> Mapping[str, str]:
    return dict(zip(("prompt_tokens", "output_tokens", "requests"), tokens, strict=True))


def models(state: State) -> object:
    name = getattr(state.started, "served_model_name", None) or getattr(state.started, "model_name", None)
    return {"object": "list", "data": [{"id": name or getattr(state.started, "name", "tgi"), "object": "model"}]}


def nothing(_state: State) -> object:
    return ""


_TGI_METRICS = named("tgi_request_input_length", "tgi_request_generated_tokens", "tgi_request_success")

ENGINES = {
    "vllm-0.1.3": Engine(
        vllm_0_1_3_arguments, vllm_0_1_3, gets={"/v1/models": models}, missing={"detail": "Not Found"}
    ),
    "tgi-1.0.1": Engine(
        tgi_1_0_1_arguments,
        tgi_1_0_1,
        posts=("/generate", "/generate_stream"),
        gets={"/health": nothing, "/info": tgi_1_0_1_info},
        metrics=_TGI_METRICS,
    ),
    "tgi": Engine(
        tgi_arguments, tgi, gets={"/health": nothing, "/info": tgi_info, "/v1/models": models}, metrics=_TGI_METRICS
    ),
    "sglang": Engine(
        sglang_arguments,
        sglang,
        gets={
            "/ready": nothing,
            "/health": generates,
            "/server_info": lambda _: {"version": "0.5.23"},
            "/v1/models": models,
        },
        metrics=named("sglang:prompt_tokens_total", "sglang:generation_tokens_total", "sglang:num_requests_total"),
    ),
    "lmdeploy": Engine(
        lmdeploy_arguments,
        lmdeploy,
        gets={"/health": lambda _: {"status": "healthy"}, "/v1/models": models},
        metrics=named(
            "lmdeploy:prompt_tokens_total", "lmdeploy:generation_tokens_total", "lmdeploy:request_success_total"
        ),
    ),
    "tensorrt-llm": Engine(
        tensorrt_llm_arguments,
        tensorrt_llm,
        gets={"/health": nothing, "/version": lambda _: {"version": "1.2.1"}},
        metrics={"requests": "trtllm_request_success_total"},  # 1.2.1 counts no tokens
        metrics_path="/prometheus/metrics",
    ),
    "ollama": Engine(
        ollama_arguments,
        ollama,
        gets={
            "/": lambda _: "Ollama is running",
            "/api/version": lambda _: {"version": "0.33.0"},
            "/v1/models": models,
        },
    ),
}


def exposition(engine: Engine, state: State) -> str:
    """What Prometheus gets; TGI's lengths are histograms."""
    lines = []
    for what, name in engine.metrics.items():
        value = getattr(state, what)
        if name.startswith("tgi_") and what != "requests":
            lines += [f"# TYPE {name} histogram", f'{name}_bucket{{le="+Inf"}} {state.requests}']
            lines += [f"{name}_sum {value}", f"{name}_count {state.requests}"]
        else:
            lines += [f"# TYPE {name} counter", f"{name} {value}"]
    return "\n".join(lines) + "\n"


def handler(engine: Engine, state: State) -> type[BaseHTTPRequestHandler]:
    """Serves one engine."""
    record, lock = os.environ.get("PROTOCOL_SERVER_RECORD"), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def note(self, **said: object) -> None:
            if record:
                with lock, Path(record).open("a") as file:
                    file.write(json.dumps({"engine": sys.argv[1], "path": self.path, **said}) + "\n")

        def say(self, status: int, body: object, headers: Mapping[str, str] | None = None) -> None:
            text = body if isinstance(body, str) else json.dumps(body, separators=(",", ":"))
            self.send_response(status)
            self.send_header("Content-Type", "text/plain" if isinstance(body, str) else "application/json")
            self.send_header("Content-Length", str(len(text.encode())))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text.encode())

        def do_GET(self) -> None:
            self.note()
            if engine.metrics and self.path == engine.metrics_path:
                self.say(200, exposition(engine, state))
            elif self.path in engine.gets:
                self.say(200, engine.gets[self.path](state))
            else:
                self.say(404, engine.missing)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.note(body=body)
            if self.path not in engine.posts:
                self.say(404, engine.missing)
                return
            try:
                answer = engine.chat(state, body, self.path)
            except Refused as refused:
                self.say(refused.status, refused.body)
                return
            if answer.events is None:
                self.say(200, answer.whole, answer.headers)
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for event in answer.events:
                data = event.encode()
                self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
                self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")

    return Handler


def main() -> None:
    name, port, *own = sys.argv[1:]
    engine = ENGINES[name]
    parser = argparse.ArgumentParser(prog=name)
    engine.arguments(parser)
    state = State(parser.parse_args(own))
    server = ThreadingHTTPServer(("127.0.0.1", int(port)), handler(engine, state))
    server.daemon_threads = True
    sys.stdout.write(f"{name} listens\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
