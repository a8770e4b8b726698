"""SGLang, LMDeploy, TensorRT-LLM and Ollama."""

import json
import os
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from exact.base import (
    DONE,
    LONGEST,
    TOTAL_LAST,
    TOTAL_SECOND,
    Answer,
    Engine,
    Json,
    Made,
    Refused,
    assistant,
    chat,
    compact,
    end,
    escaped,
    event,
    exposition,
    generate,
    models,
    paced,
    spaced,
    stops,
    streams,
    templated,
    tokens_of,
    wants_usage,
)


class Sglang(Engine):
    """SGLang 0.5.23: its wheel, srt/entrypoints/{http_server.py,openai/{protocol,serving_chat,sse_utils}.py}.

    Chunks come from msgspec: ``reasoning_content`` stands first, and always; role and content where they are not null.
    Role and reason have chunks of their own, the end of sequence has none and is counted. Metrics are there if they
    were asked for (srt/observability/metrics_collector.py). ``/health`` generates a token, which they leave out.
    """

    name = "sglang"
    program = "launch_server.py"
    values = """
        --model-path --tokenizer-path --served-model-name --host --port --dtype --tp-size --context-length --random-seed
        --load-format --sampling-defaults --chat-template --mem-fraction-static --max-running-requests --revision
        --attention-backend --stream-interval
    """
    switches = "--disable-radix-cache --enable-metrics --trust-remote-code --disable-cuda-graph"
    choices: ClassVar = {
        "--dtype": ("auto", "half", "float16", "bfloat16", "float", "float32"),
        "--sampling-defaults": ("openai", "model"),
    }
    defaults: ClassVar = {"--port": "30000"}

    def gets(self, path: str) -> object:
        served = str(self.flags["served_model_name"] or self.flags["model_path"])
        if path in {"/health", "/health_generate"}:
            with self.state.lock:
                self.state.health_polls += 1
            return ""
        if path == "/metrics" and self.flags["enable_metrics"]:
            counters = {"prompt_tokens_total": self.state.prompt_tokens}
            counters |= {"generation_tokens_total": self.state.output_tokens}
            counters |= {"num_requests_total": self.state.ended.total()}
            labels = f'model_name="{served}",is_streaming="true"'
            return exposition("sglang:", labels, counters, ("num_running_reqs", "num_queue_reqs", "token_usage"))
        tells: Json = {"/ready": "", "/v1/models": models(served, "sglang")}
        tells["/model_info"] = {"model_path": self.flags["model_path"], "is_generation": True}
        tells["/server_info"] = {**self.flags, "health_polls": self.state.health_polls, "version": "0.5.23"}
        return tells.get(path)

    def answer(self, body: Json, _path: str) -> Answer:
        prompt = templated(self.flags["model_path"], body["messages"])
        given, longest = tokens_of(prompt), int(self.flags["context_length"] or 4096)
        limit = body.get("max_completion_tokens") or body.get("max_tokens") or longest - given - 1
        if given + limit >= longest:
            message = (
                f"Requested token count exceeds the model's maximum context length of {longest} tokens. You requested "
                f"a total of {given + limit} tokens: {given} tokens from the input messages and {limit} tokens for the "
                "completion. Please reduce the number of tokens in the input messages or the completion to fit within "
                "the limit."
            )
            error = {"object": "error", "message": message, "type": "BadRequestError", "param": None, "code": 400}
            raise Refused(400, error)
        said = self.said(generate(prompt, limit, stops(body), ignore_eos=bool(body.get("ignore_eos"))), prompt)
        usage = said.usage(
            *TOTAL_SECOND, prompt_tokens_details=None, reasoning_tokens=0, completion_tokens_details=None
        )
        matched = {"length": None, "eos": 2, "stop": said.made.stop}[said.made.ended]
        of = chat("6b1f", body["model"], stream=streams(body))
        if streams(body):
            return replace(said, events=self.events(said, of, matched, usage if wants_usage(body) else None))
        choice = {"index": 0, "message": assistant(said.made, reasoning_content=None), "logprobs": None}
        choice |= {"finish_reason": said.finish, "matched_stop": matched}
        return replace(said, whole=compact(of | {"choices": [choice], "usage": usage, "metadata": None}).encode())

    @staticmethod
    def events(said: Answer, of: Json, matched: object, usage: Json | None) -> Iterator[bytes]:
        def chunk(finish: str | None = None, stopped_at: object = None, **delta: str) -> bytes:
            choice = {"index": 0, "delta": {"reasoning_content": None, **delta}, "logprobs": None}
            return event(compact(of | {"choices": [choice | {"finish_reason": finish, "matched_stop": stopped_at}]}))

        yield chunk(role="assistant", content="")
        yield from (chunk(content=text) for text in paced(said.made.trimmed) if text)
        yield chunk(said.finish, matched)
        if usage:
            yield event(compact(of | {"choices": [], "usage": usage}))
        yield DONE


class Lmdeploy(Engine):
    """LMDeploy 0.18.0: its wheel, cli/{serve,utils}.py, serve/{openai,core}/, metrics/loggers.py.

    Chunks are ``json.dumps`` of what is not null, and of a null ``usage`` where usage was asked for; the usage chunk
    comes from pydantic. The reason has an empty chunk of its own. The token that ends an answer is left out of its text
    and its count, and is in the metrics. ``--chat-template`` is a name that it knows, or a file of its own format.
    """

    name = "lmdeploy"
    program = "lmdeploy serve api_server"
    positional = "model_path"
    values = """
        --server-name --server-port --allow-origins --proxy-url --max-concurrent-requests --backend --log-level
        --api-keys --model-name --max-log-len --chat-template --tool-call-parser --reasoning-parser --revision
        --download-dir --generation-config --dtype --tp --session-len --max-batch-size --cache-max-entry-count
        --cache-block-seq-len --quant-policy --model-format --max-prefill-token-num --dp --ep --cp --device
        --rope-scaling-factor --num-tokens-per-iter --max-prefill-iters --communicator
    """
    switches = "--enable-prefix-caching --disable-metrics --trust-remote-code --eager-mode --ssl"
    choices: ClassVar = {
        "--backend": ("pytorch", "turbomind"),
        "--dtype": ("auto", "float16", "bfloat16"),
        "--chat-template": ("base", "vicuna", "llama2", "hf"),
    }
    defaults: ClassVar = {"--server-port": "23333"}

    def parsed(self, words: Sequence[str]) -> Json:
        if list(words[:2]) != ["serve", "api_server"]:
            end(f"usage: lmdeploy [-h] [-v] ...\nlmdeploy: error: invalid choice: {' '.join(words[:2])!r}")
        found = super().parsed(words[2:])
        return found | {"port": found["server_port"]}

    @property
    def served(self) -> str:
        return str(self.flags["model_name"] or self.flags["model_path"])

    def gets(self, path: str) -> object:
        counters = {"prompt_tokens_total": self.state.prompt_tokens, "request_success_total": self.state.ended.total()}
        counters["generation_tokens_total"] = self.state.output_tokens + self.state.ended["stop"]
        gauges = ("num_requests_running", "num_requests_waiting", "gpu_cache_usage_perc")
        tells: Json = {"/health": {"status": "healthy"}, "/v1/models": models(self.served, "lmdeploy")}
        if not self.flags["disable_metrics"]:
            tells["/metrics"] = exposition("lmdeploy:", f'model_name="{self.served}",engine="0"', counters, gauges)
        return tells.get(path)

    def answer(self, body: Json, _path: str) -> Answer:
        def check(right: object, message: str, status: int = 400, kind: str = "invalid_request_error") -> None:
            if not right:
                raise Refused(
                    status, {"message": message, "type": kind, "code": status, "param": None, "object": "error"}
                )

        check(body["model"] == self.served, f"The model {body['model']!r} does not exist.", 404, "not_found_error")
        temperature, limit = body.get("temperature") or 0, body.get("max_completion_tokens", body.get("max_tokens"))
        check(0 <= temperature <= 2, f"The temperature {temperature!r} must be in [0, 2]")
        check(limit is None or limit > 0, f"The max_tokens {limit!r} must be a positive integer.")
        prompt = templated(self.flags["model_path"], body["messages"])
        limit = limit or int(self.flags["session_len"] or 4096) - tokens_of(prompt)
        made = generate(prompt, limit, stops(body), ignore_eos=bool(body.get("ignore_eos")))
        kept = made if made.ended == "length" else Made(made.texts[:-1], made.ended)
        said, of = self.said(kept, prompt), chat("chatcmpl-3F", body["model"], stream=streams(body))
        if streams(body):
            return replace(said, events=self.events(said, of, usage=wants_usage(body)))
        message = assistant(kept, reasoning_content=None, tool_calls=None)
        choice = {"index": 0, "message": message, "logprobs": None, "output_token_logprobs": None}
        choice |= {"finish_reason": said.finish, "output_ids": None, "routed_experts": None}
        details = {"prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": None}
        whole = of | {"choices": [choice], "usage": said.usage(*TOTAL_SECOND, **details), "service_tier": None}
        return replace(said, whole=compact(whole).encode())

    @staticmethod
    def events(said: Answer, of: Json, *, usage: bool) -> Iterator[bytes]:
        def chunk(text: str, **finish: str) -> bytes:
            choice = {"index": 0, "delta": {"role": "assistant", "content": text}, **finish}
            return event(spaced(of | {"choices": [choice]} | ({"usage": None} if usage else {})))

        yield from map(chunk, paced(said.made.texts))
        yield chunk("", finish_reason=said.finish)
        if usage:
            counts = said.usage(*TOTAL_SECOND, prompt_tokens_details={"cached_tokens": 0})
            yield event(compact(of | {"choices": [], "usage": counts}))
        yield DONE


class TensorrtLlm(Engine):
    """TensorRT-LLM: tensorrt_llm/serve/{openai_server,openai_protocol,postprocess_handlers}.py of its repository.

    Read in copies of about 1.2 that name no release: which null fields a chunk leaves out may differ from 1.2.1.
    Unknown fields are refused, and stream options without a stream. The role's chunk has a blank behind its JSON, the
    reason is in the last token's. Prometheus metrics are there where ``return_perf_metrics`` is, and count requests,
    but, in 1.2.1, no tokens; ``/metrics`` is a list of iterations.
    """

    name = "tensorrt-llm"
    program = "trtllm-serve serve"
    positional = "model"
    values = """
        --tokenizer --host --port --backend --max_beam_width --max_batch_size --max_num_tokens --max_seq_len --tp_size
        --pp_size --ep_size --gpus_per_node --kv_cache_free_gpu_memory_fraction --extra_llm_api_options
        --reasoning_parser --tool_parser --chat_template
    """
    switches = "--trust_remote_code"
    choices: ClassVar = {"--backend": ("pytorch", "tensorrt", "_autodeploy")}
    defaults: ClassVar = {"--port": "8000"}
    unknown = "Usage: {program} [OPTIONS] MODEL\nTry '{program} --help' for help.\n\nError: No such option: {first}"

    options = "return_perf_metrics kv_cache_config dtype load_format enable_iter_perf_stats cuda_graph_config"
    """Some of the file that ``--extra_llm_api_options`` names; TorchLlmArgs refuses those that it does not know."""
    fields = """
        messages model frequency_penalty logit_bias logprobs top_logprobs max_tokens max_completion_tokens n
        presence_penalty response_format seed stop stream stream_options temperature top_p tools tool_choice user
        best_of use_beam_search top_k top_p_min min_p repetition_penalty length_penalty early_stopping stop_token_ids
        include_stop_str_in_output ignore_eos min_tokens skip_special_tokens spaces_between_special_tokens echo
        truncate_prompt_tokens add_generation_prompt add_special_tokens chat_template chat_template_kwargs
        documents disaggregated_params lora_request
    """

    def parsed(self, words: Sequence[str]) -> Json:
        found = super().parsed(words[1:] if words[:1] == ["serve"] else words)
        file = found["extra_llm_api_options"]
        extra = json.loads(Path(file).read_text()) if file else {}
        if unknown := sorted(set(extra) - set(self.options.split())):
            end(f"pydantic_core.ValidationError: for TorchLlmArgs: {unknown}: Extra inputs are not permitted", 1)
        return found | {"extra": extra}

    @property
    def served(self) -> str:
        folder = Path(self.flags["model"])
        return folder.name if folder.is_dir() else str(self.flags["model"])

    def gets(self, path: str) -> object:
        tells: Json = {"/health": "", "/version": {"version": "1.2.1"}, "/metrics": []}
        tells["/v1/models"] = models(self.served, "tensorrt_llm")
        if self.flags["extra"].get("return_perf_metrics"):
            labels = 'engine_type="undefined",finished_reason="{}",model_name="undefined"'
            counts = {f"trtllm_request_success_total{{{labels.format(e)}}} {n}.0" for e, n in self.state.ended.items()}
            tells["/prometheus/metrics"] = "\n".join(["# TYPE trtllm_request_success_total counter", *counts, ""])
        return tells.get(path)

    def answer(self, body: Json, _path: str) -> Answer:
        if unknown := sorted(set(body) - set(self.fields.split())):
            kind = {"type": "extra_forbidden", "msg": "Extra inputs are not permitted"}
            raise Refused(400, {"error": str([kind | {"loc": ("body", name)} for name in unknown])})
        if body.get("stream_options") is not None and not streams(body):
            raise Refused(400, {"error": "Value error, stream_options can only be set if stream is true"})
        prompt = templated(self.flags["model"], body["messages"])
        limit = body.get("max_tokens") or body.get("max_completion_tokens")
        limit = limit or int(self.flags["max_seq_len"] or 4096) - tokens_of(prompt)
        said = self.said(generate(prompt, limit, stops(body), ignore_eos=bool(body.get("ignore_eos"))), prompt)
        usage = said.usage(*TOTAL_SECOND, prompt_tokens_details={"cached_tokens": 0})
        of = chat("chatcmpl-7c", body["model"], stream=streams(body))
        if streams(body):
            return replace(said, events=self.events(said, of, usage if wants_usage(body) else None))
        message = assistant(said.made, reasoning_content="", tool_calls=[])
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": said.finish}
        choice |= {"stop_reason": said.made.stop, "disaggregated_params": None, "avg_decoded_tokens_per_iter": None}
        return replace(
            said, whole=compact(of | {"choices": [choice], "usage": usage, "prompt_token_ids": None}).encode()
        )

    @staticmethod
    def events(said: Answer, of: Json, usage: Json | None) -> Iterator[bytes]:
        role = {"index": 0, "delta": {"role": "assistant", "tool_calls": []}}
        yield event(compact(of | {"choices": [role]}) + " ")
        for i, text in enumerate(paced(said.made.trimmed)):
            choice: Json = {"index": 0, "delta": {"content": text, "reasoning_content": "", "tool_calls": []}}
            if i == len(said.made.texts) - 1:
                choice |= {"finish_reason": said.finish} | ({"stop_reason": said.made.stop} if said.made.stop else {})
            yield event(compact(of | {"choices": [choice]}))
        if usage:
            yield event(compact(of | {"choices": [], "usage": usage}))
        yield DONE


class Ollama(Engine):
    """Ollama 0.33: openai/openai.go, middleware/openai.go and server/routes.go of its repository at v0.33.0-rc2.

    It has a model once that was created, and answers 404 for it until then. Unknown fields are left aside. The role is
    in the first chunk, the reason in an empty one. A whole answer ends with a line feed. No metrics. What ``ollama
    create`` says to the server is simpler here than there.
    """

    name = "ollama"
    program = "ollama"
    posts = ("/v1/chat/completions", "/api/create")
    headers: ClassVar = {}
    not_found = ("text/plain", "404 page not found")
    not_allowed = ("text/plain", "405 method not allowed")

    def __init__(self, words: Sequence[str]) -> None:
        self.templates: dict[str, str] = {}
        super().__init__(words)

    def parsed(self, words: Sequence[str]) -> Json:
        """Become the server, or tell it something and end."""
        port = os.environ.get("OLLAMA_HOST", "127.0.0.1:11434").rpartition(":")[2]
        if list(words) == ["serve"]:
            return {"port": port}
        try:
            ollama(f"http://127.0.0.1:{os.environ.get('EXACT_SERVER_PORT') or port}", words)
        except OSError as error:
            end(f"Error: ollama server not responding - {error}", 1)
        raise SystemExit(0)

    def gets(self, path: str) -> object:
        names = [f"{name}:latest" for name in self.templates]
        tells: Json = {"/": "Ollama is running", "/api/version": {"version": "0.33.0"}}
        tells["/api/tags"] = {"models": [{"name": name, "model": name} for name in names]}
        tells["/v1/models"] = {"object": "list", "data": [{"id": name, "object": "model"} for name in names]}
        return tells.get(path)

    def answer(self, body: Json, path: str) -> Answer:
        if path == "/api/create":
            self.templates[body["model"]] = body["template"]
            return Answer(Made((), "length"), whole=b'{"status":"success"}\n')
        template = self.templates.get(body["model"].removesuffix(":latest"))
        if template is None:
            error = {"message": f"model '{body['model']}' not found", "type": "not_found_error"}
            raise Refused(404, {"error": error | {"param": None, "code": None}})
        prompt = template.replace("{{ .Prompt }}", str(body["messages"][-1]["content"]))
        said = self.said(generate(prompt, body.get("max_tokens") or LONGEST, stops(body)), prompt)
        of = chat("chatcmpl-312", body["model"], stream=streams(body)) | {"system_fingerprint": "fp_ollama"}
        usage = said.usage(*TOTAL_LAST)
        if streams(body):
            return replace(said, events=self.events(said, of, usage if wants_usage(body) else None))
        choice = {"index": 0, "message": assistant(said.made), "finish_reason": said.finish}
        return replace(said, whole=escaped(of | {"choices": [choice], "usage": usage}).encode() + b"\n")

    @staticmethod
    def events(said: Answer, of: Json, usage: Json | None) -> Iterator[bytes]:
        role = {"role": "assistant"}
        for text in paced(said.made.trimmed):
            if text or role:
                choice = {"index": 0, "delta": {**role, "content": text}, "finish_reason": None}
                yield event(escaped(of | {"choices": [choice]}))
            role = {}
        yield event(escaped(of | {"choices": [{"index": 0, "delta": {}, "finish_reason": said.finish}]}))
        if usage:
            yield event(escaped(of | {"choices": [], "usage": usage}))
        yield DONE


def ollama(url: str, words: Sequence[str]) -> None:
    """``ollama list``, or ``ollama create NAME -f FILE``; raises OSError where the server does not answer."""
    match words:
        case ["list"]:
            with urllib.request.urlopen(f"{url}/api/tags") as reply:
                sys.stdout.writelines(f"{model['name']}\n" for model in json.loads(reply.read())["models"])
        case ["create", name, "-f", file]:
            text = Path(file).read_text()
            source = text.partition("FROM ")[2].splitlines()[0]
            if not Path(source).is_file():
                end(f"Error: open {source}: no such file or directory", 1)
            template = text.partition('TEMPLATE """')[2].partition('"""')[0] or "{{ .Prompt }}"
            body = json.dumps({"model": name, "template": template}).encode()
            with urllib.request.urlopen(urllib.request.Request(f"{url}/api/create", body)) as reply:
                sys.stdout.write(reply.read().decode())
        case _:
            end(f'Error: unknown command {" ".join(words)!r} for "ollama"', 1)
