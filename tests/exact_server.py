"""Servers that speak exactly as engines do that need a GPU or a container: one program, started by their own words.

    python tests/exact_server.py --engine NAME [the words of the engine's own command line ...]

Each engine is one class below: its flags, routes, refusals, bytes and metrics, and where that was read. The answers are
those of :func:`generate`. Variables of the environment: EXACT_SERVER_PORT, where to listen, instead of what the words
say; EXACT_SERVER_RECORD, a file that gets a line of JSON for each request.
"""

import argparse
import hashlib
import json
import os
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from jinja2 import Template
from jinja2.sandbox import ImmutableSandboxedEnvironment

Json = dict[str, Any]

TOKEN_S = 0.001
"""From one token of an answer to the next."""

WORDS = (" the", " of", " and", " to", " in", " is", " that", " for", " on", " it", " be", " you", " as", " with")
"""What is said: each is one token to any tokenizer that has seen some English."""

SHORTEST, LONGEST = 4, 64
"""An answer that nobody cuts has so many tokens, the last of which is the end of sequence."""

_TEMPLATES = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, autoescape=False)
"""As transformers sets it up."""


class Refused(Exception):  # noqa: N818 the engine's answer, not a fault
    """A request that the engine does not take."""

    def __init__(self, status: int, body: object) -> None:
        super().__init__(status)
        self.status, self.body = status, body


@dataclass(frozen=True)
class Made:
    """What the model has generated."""

    texts: Sequence[str]
    """Of each token, in order; nothing for the end of sequence."""
    ended: str
    """length, eos or stop."""
    stop: str | None = None
    """The text that ended it."""

    @property
    def trimmed(self) -> Sequence[str]:
        """Texts of the tokens, without the text that ended the answer."""
        rest = len("".join(self.texts)) - len(self.stop or "")
        kept = []
        for text in self.texts:
            kept.append(text[: max(rest, 0)])
            rest -= len(text)
        return kept


def generate(prompt: str, limit: int, stop: Sequence[str] = (), *, ignore_eos: bool = False) -> Made:
    """Generate the one answer to a prompt: its words and its length depend on the prompt, and on nothing else."""
    seed = int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:4])
    natural = SHORTEST + seed % (LONGEST + 1 - SHORTEST)
    texts: list[str] = []
    while len(texts) < limit:
        if not ignore_eos and len(texts) + 1 == natural:
            return Made([*texts, ""], "eos")
        texts.append(WORDS[(seed + len(texts)) % len(WORDS)])
        if found := next((s for s in stop if s and "".join(texts).endswith(s)), None):
            return Made(texts, "stop", found)
    return Made(texts, "length")


@dataclass
class State:
    """What a server has done."""

    prompt_tokens: int = 0
    output_tokens: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    """Answers, by what the engine calls their end."""
    health_polls: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True)
class Answer:
    """What goes back to a request that is taken."""

    made: Made
    prompt_tokens: int = 0
    output_tokens: int = 0
    """As the engine counts them."""
    finish: str = ""
    """As it calls the end."""
    whole: bytes = b""
    events: Iterator[bytes] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def usage(self, *order: str, **more: object) -> Json:
        """The three counts, in the order in which an engine writes them."""
        counts = {"prompt_tokens": self.prompt_tokens, "completion_tokens": self.output_tokens}
        counts["total_tokens"] = sum(counts.values())
        return {name: counts[name] for name in order} | more


TOTAL_LAST = ("prompt_tokens", "completion_tokens", "total_tokens")
TOTAL_SECOND = ("prompt_tokens", "total_tokens", "completion_tokens")
"""In FastChat's protocol, from which many have theirs."""


def compact(value: object) -> str:
    """JSON as pydantic 2, msgspec, serde, and FastAPI's responses write it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def spaced(value: object) -> str:
    """JSON as ``json.dumps``, and pydantic 1, write it."""
    return json.dumps(value, ensure_ascii=False)


def escaped(value: object) -> str:
    """JSON as Go writes it."""
    return compact(value).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def event(data: str) -> bytes:
    """One server-sent event."""
    return f"data: {data}\n\n".encode()


DONE = event("[DONE]")


def chat(name: str, model: object, *, stream: bool) -> Json:
    """How a chunk, or a whole answer, begins."""
    kind = "chat.completion.chunk" if stream else "chat.completion"
    return {"id": name, "object": kind, "created": int(time.time()), "model": model}


def assistant(made: Made, **more: object) -> Json:
    return {"role": "assistant", "content": "".join(made.trimmed), **more}


def streams(body: Json) -> bool:
    return bool(body.get("stream"))


def wants_usage(body: Json) -> bool:
    return bool((body.get("stream_options") or {}).get("include_usage"))


def stops(body: Json) -> list[str]:
    """Return stop strings, one or several."""
    said = body.get("stop") or []
    return [said] if isinstance(said, str) else list(said)


def tokens_of(text: str) -> int:
    """Count the tokens of a prompt: words."""
    return len(text.split())


def paced(texts: Sequence[str]) -> Iterator[str]:
    for text in texts:
        time.sleep(TOKEN_S)
        yield text


def templated(folder: str, messages: Sequence[Json], *, file: bool = True) -> str:
    """Return the text of a chat by the template of a model's folder; without one, what the last message says."""
    template, bos_token = template_in(folder, file=file)
    if template is None:
        return str(messages[-1]["content"])
    return template.render(messages=messages, bos_token=bos_token, add_generation_prompt=True)


@cache
def template_in(folder: str, *, file: bool) -> tuple[Template | None, str]:
    """Find a chat template, and what begins a sequence.

    Engines that build on transformers prefer the ``file`` of its own to ``tokenizer_config.json``.
    """
    config, own = Path(folder) / "tokenizer_config.json", Path(folder) / "chat_template.jinja"
    said = json.loads(config.read_text()) if config.is_file() else {}
    text = own.read_text() if file and own.is_file() else said.get("chat_template")
    return None if text is None else _TEMPLATES.from_string(text), said.get("bos_token") or ""


def models(name: str, owner: str) -> Json:
    return {"object": "list", "data": [{"id": name, "object": "model", "created": 1795636523, "owned_by": owner}]}


def exposition(prefix: str, labels: str, counters: Mapping[str, int], gauges: Sequence[str] = ()) -> str:
    """As prometheus_client writes it."""
    samples = [*(("counter", *one) for one in counters.items()), *(("gauge", name, 0) for name in gauges)]
    texts = (
        f"# HELP {prefix}{name} {name}\n# TYPE {prefix}{name} {kind}\n{prefix}{name}{{{labels}}} {float(value)}\n"
        for kind, name, value in samples
    )
    return "".join(texts)


def end(message: str, status: int = 2) -> NoReturn:
    sys.stderr.write(message + "\n")
    raise SystemExit(status)


class Engine:
    """What all have in common; a class below says what is its own."""

    name: ClassVar[str]
    program: ClassVar[str]
    """As it calls itself in its usage."""
    positional: ClassVar[str] = ""
    values: ClassVar[str] = ""
    """Flags with a value."""
    switches: ClassVar[str] = ""
    choices: ClassVar[Mapping[str, Sequence[str]]] = {}
    """Values of flags that take no others."""
    defaults: ClassVar[Mapping[str, str]] = {}
    unknown: ClassVar[str] = "{program}: error: unrecognized arguments: {rest}"
    """What it says of flags that it does not know."""
    posts: ClassVar[Sequence[str]] = ("/v1/chat/completions",)
    headers: ClassVar[Mapping[str, str]] = {"server": "uvicorn"}
    not_found: ClassVar[tuple[str, str]] = ("application/json", '{"detail":"Not Found"}')
    """What it says of routes that it does not have."""
    not_allowed: ClassVar[tuple[str, str]] = ("application/json", '{"detail":"Method Not Allowed"}')
    trims: ClassVar[bool] = True
    """Whether the text that ended an answer is left out of it."""
    finishes: ClassVar[Mapping[str, str]] = {"length": "length", "eos": "stop", "stop": "stop"}
    """What it calls the ends of :class:`Made`."""

    def __init__(self, words: Sequence[str]) -> None:
        self.state = State()
        self.flags = self.parsed(words)

    def parsed(self, words: Sequence[str]) -> Json:
        """Read the command line, or end as the engine would."""
        parser = argparse.ArgumentParser(prog=self.program)
        for name in self.positional.split():
            parser.add_argument(name)
        for name in self.values.split():
            parser.add_argument(name, choices=self.choices.get(name), default=self.defaults.get(name))
        for name in self.switches.split():
            parser.add_argument(name, action="store_true")
        known, rest = parser.parse_known_args(words)
        if rest:
            end(self.unknown.format(program=self.program, rest=" ".join(rest), first=rest[0]))
        return vars(known)

    @property
    def port(self) -> int:
        return int(os.environ.get("EXACT_SERVER_PORT") or self.flags["port"])

    def gets(self, path: str) -> object:
        """Return what a route tells that is not the model's, text or JSON; None where there is no such route."""
        raise NotImplementedError

    def answer(self, body: Json, path: str) -> Answer:
        """Answer a request; raises Refused."""
        raise NotImplementedError

    def said(self, made: Made, prompt: str) -> Answer:
        """An answer with all that is counted."""
        return Answer(made, tokens_of(prompt), len(made.texts), self.finishes[made.ended])

    def count(self, answer: Answer) -> None:
        """Take an answer that is complete into the metrics."""
        with self.state.lock:
            self.state.prompt_tokens += answer.prompt_tokens
            self.state.output_tokens += answer.output_tokens
            self.state.ended[answer.finish] += bool(answer.finish)


class Vllm013(Engine):
    """vLLM 0.1.3: its sdist, entrypoints/openai/{api_server,protocol}.py, engine/{arg_utils,llm_engine}.py.

    Pydantic 1: unknown fields are left aside, JSON has blanks, the role chunk has only the fields that were set, and
    all others have a role that is null. A chunk for each token, the end of sequence included (with no text), then an
    empty one with the reason. No usage in a stream. Neither health nor metrics.
    """

    name = "vllm-0.1.3"
    program = "api_server.py"
    values = """
        --host --port --allowed-origins --allowed-methods --allowed-headers --served-model-name --model --tokenizer
        --tokenizer-mode --download-dir --dtype --pipeline-parallel-size --tensor-parallel-size --block-size --seed
        --swap-space --gpu-memory-utilization --max-num-batched-tokens --max-num-seqs
    """
    switches = """
        --allow-credentials --trust-remote-code --use-np-weights --use-dummy-weights --worker-use-ray
        --disable-log-stats --engine-use-ray --disable-log-requests
    """
    choices: ClassVar = {"--dtype": ("auto", "half", "bfloat16", "float"), "--block-size": ("8", "16", "32")}
    defaults: ClassVar = {"--port": "8000"}

    @property
    def served(self) -> str:
        return str(self.flags["served_model_name"] or self.flags["model"])

    @property
    def longest(self) -> int:
        """It has no flag for it: the model's configuration says."""
        config = Path(self.flags["model"]) / "config.json"
        return int(json.loads(config.read_text())["max_position_embeddings"]) if config.is_file() else 2048

    def gets(self, path: str) -> object:
        return models(self.served, "vllm") if path == "/v1/models" else None

    @staticmethod
    def prompt(body: Json) -> str:
        """By the name that it serves: fastchat/model/model_adapter.py, 0.2.23. Else its ``one_shot``, not made here."""
        from loadgen.models.template import render_chat, template_text

        known = {"vicuna": "vicuna_v1.1", "oasst": "oasst_llama", "mpt-7b-chat": "mpt-7b-chat"}
        known |= {"falcon": "falcon", "llama-2": "llama-2"}
        template = next((known[part] for part in known if part in body["model"].lower()), None)
        return render_chat(template_text(template), body["messages"]) if template else body["messages"][-1]["content"]

    def answer(self, body: Json, _path: str) -> Answer:
        def check(wrong: object, message: str, status: int = 400) -> None:
            if wrong:
                error = {"object": "error", "message": message, "type": "invalid_request_error"}
                raise Refused(status, error | {"param": None, "code": None})

        check(body["model"] != self.served, f"The model `{body['model']}` does not exist.", 404)
        check(body.get("logit_bias") is not None, "logit_bias is not currently supported")
        prompt, limit = self.prompt(body), body.get("max_tokens", 16)
        given = tokens_of(prompt)
        check(
            given + limit > self.longest,
            f"This model's maximum context length is {self.longest} tokens. However, you requested {limit + given} "
            f"tokens ({given} in the messages, {limit} in the completion). Please reduce the length of the messages or "
            "completion.",
        )
        temperature = body.get("temperature", 0.7)
        check(temperature < 0, f"temperature must be non-negative, got {temperature}.")
        check(limit < 1, f"max_tokens must be at least 1, got {limit}.")
        said = self.said(generate(prompt, limit, stops(body), ignore_eos=bool(body.get("ignore_eos"))), prompt)
        of = chat("cmpl-0a1b", body["model"], stream=streams(body))
        if streams(body):
            return replace(said, events=self.events(said, of))
        choice = {"index": 0, "message": assistant(said.made), "finish_reason": said.finish}
        return replace(said, whole=compact(of | {"choices": [choice], "usage": said.usage(*TOTAL_SECOND)}).encode())

    @staticmethod
    def events(said: Answer, of: Json) -> Iterator[bytes]:
        def chunk(text: str, finish: str | None = None) -> bytes:
            choice = {"index": 0, "delta": {"role": None, "content": text}, "finish_reason": finish}
            return event(spaced(of | {"choices": [choice]}))

        role = {"index": 0, "delta": {"role": "assistant"}, "finish_reason": None}
        yield event(spaced({"id": of["id"], "model": of["model"], "choices": [role]}))
        yield from map(chunk, paced(said.made.trimmed))
        yield chunk("", said.finish)
        yield DONE


CLAP = "error: unexpected argument '{first}' found\n\nUsage: {program} [OPTIONS]\n\nFor more information, try '--help'."


class Tgi101(Engine):
    """TGI 1.0.1: router/src/{server,lib,validation,infer}.rs and launcher/src/main.rs of its repository at v1.0.1.

    Axum 0.6: no blank after ``data:``. A stream that is refused is a 200 with the error as its only event. Stop strings
    stay in the text (server/text_generation_server/utils/tokens.py); the end of sequence is an event with a text of its
    own, marked special, and counted. Temperature 0 is refused. No chat, no ``ignore_eos``.
    """

    name = "tgi-1.0.1"
    program = "text-generation-launcher"
    values = """
        --model-id --revision --validation-workers --sharded --num-shard --quantize --dtype --max-concurrent-requests
        --max-best-of --max-stop-sequences --max-input-length --max-total-tokens --waiting-served-ratio
        --max-batch-prefill-tokens --max-batch-total-tokens --max-waiting-tokens --hostname --port --shard-uds-path
        --master-addr --master-port --huggingface-hub-cache --weights-cache-override --cuda-memory-fraction
        --rope-scaling --rope-factor --otlp-endpoint --cors-allow-origin --watermark-gamma --watermark-delta
    """
    switches = "--trust-remote-code --disable-custom-kernels --json-output"
    choices: ClassVar = {"--dtype": ("float16", "bfloat16"), "--rope-scaling": ("linear", "dynamic")}
    defaults: ClassVar = {
        "--port": "3000",
        "--max-input-length": "1024",
        "--max-total-tokens": "2048",
        "--max-stop-sequences": "4",
    }
    unknown = CLAP
    posts = ("/generate", "/generate_stream", "/", "/invocations")
    headers: ClassVar = {}
    not_found = not_allowed = ("text/plain", "")
    trims = False
    finishes: ClassVar = {"length": "length", "eos": "eos_token", "stop": "stop_sequence"}

    def gets(self, path: str) -> object:
        info = {"model_id": self.flags["model_id"], "model_sha": None, "model_dtype": "torch.float16"}
        info |= {"model_device_type": "cuda", "model_pipeline_tag": None, "max_concurrent_requests": 128}
        info |= {key: int(self.flags[key]) for key in ("max_stop_sequences", "max_input_length", "max_total_tokens")}
        tells = {"/info": info | {"version": "1.0.1"}, "/metrics": tgi_metrics(self.state)}
        return "" if path in {"/health", "/", "/ping"} else tells.get(path)

    def answer(self, body: Json, path: str) -> Answer:
        stream = path == "/generate_stream" or (path != "/generate" and streams(body))
        try:
            return self.generated(body, path, stream=stream)
        except Refused as refused:
            if not stream:
                raise
            return Answer(Made((), "length"), events=iter([f"data:{compact(refused.body)}\n\n".encode()]))

    def generated(self, body: Json, path: str, *, stream: bool) -> Answer:
        wanted, prompt = body.get("parameters") or {}, body["inputs"]
        limit = wanted.get("max_new_tokens", 20)
        tgi_check(
            wanted.get("temperature") is None or wanted["temperature"] > 0, "`temperature` must be strictly positive"
        )
        tgi_check(wanted.get("top_p") is None or 0 < wanted["top_p"] < 1, "`top_p` must be > 0.0 and < 1.0")
        tgi_check_lengths(prompt, limit, stops(wanted), self.flags)
        made = generate(prompt, limit, stops(wanted))
        said = self.said(made, prompt)
        details = {"finish_reason": said.finish, "generated_tokens": said.output_tokens, "seed": None}
        if stream:
            about = {"x-compute-type": "gpu+optimized", "x-compute-characters": str(len(prompt))}
            asked = details if wanted.get("details") else None
            return replace(said, events=self.events(made, asked), headers=about | {"x-accel-buffering": "no"})
        whole: Json = {"generated_text": "".join(made.texts)}
        if wanted.get("details"):
            whole["details"] = details | {"prefill": [], "tokens": [self.token(i, t) for i, t in enumerate(made.texts)]}
        sent = compact(whole if path == "/generate" else [whole]).encode()
        return replace(said, whole=sent, headers=tgi_headers(said, prompt))

    @staticmethod
    def token(number: int, text: str) -> Json:
        return {"id": 300 + number if text else 2, "text": text or "</s>", "logprob": -0.5, "special": not text}

    def events(self, made: Made, details: Json | None) -> Iterator[bytes]:
        for i, text in enumerate(paced(made.texts)):
            is_last = i == len(made.texts) - 1
            more = {"generated_text": "".join(made.texts) if is_last else None, "details": details if is_last else None}
            yield f"data:{compact({'token': self.token(i, text), **more})}\n\n".encode()


def tgi_check(right: object, message: str, kind: str = "validation") -> None:
    if not right:
        raise Refused(422, {"error": f"Input validation error: {message}", "error_type": kind})


def tgi_check_lengths(prompt: str, limit: int, stop: Sequence[str], flags: Json) -> None:
    """Do the checks of router/src/validation.rs that both versions have, in their order."""
    most, total, given = int(flags["max_stop_sequences"]), int(flags["max_total_tokens"]), tokens_of(prompt)
    longest = int(flags.get("max_input_tokens") or flags["max_input_length"] or total - 1)
    tgi_check(limit > 0, "`max_new_tokens` must be strictly positive")
    tgi_check(len(stop) <= most, f"`stop` supports up to {most} stop sequences. Given: {len(stop)}")
    tgi_check(prompt, "`inputs` cannot be empty")
    sums = f"Given: {given} `inputs` tokens and {limit} `max_new_tokens`"
    tgi_check(given + limit <= total, f"`inputs` tokens + `max_new_tokens` must be <= {total}. {sums}")
    tgi_check(given <= longest, f"`inputs` must have less than {longest} tokens. Given: {given}")


def tgi_headers(said: Answer, prompt: str) -> dict[str, str]:
    """Those of an answer that is not streamed; times are whole milliseconds."""
    took = str(said.output_tokens)
    about = {"x-compute-type": "gpu+optimized", "x-compute-time": took, "x-compute-characters": str(len(prompt))}
    about |= {"x-total-time": took, "x-validation-time": "0", "x-queue-time": "0", "x-inference-time": took}
    return about | {"x-time-per-token": "1"}


def tgi_metrics(state: State) -> str:
    """As metrics-exporter-prometheus writes it: counters without ``_total``, and lengths as histograms."""
    done = state.ended.total()
    texts = [f"# TYPE {name} counter\n{name} {done}\n" for name in ("tgi_request_count", "tgi_request_success")]
    lengths = {"tgi_request_input_length": state.prompt_tokens, "tgi_request_generated_tokens": state.output_tokens}
    for name, total in lengths.items():
        texts.append(
            f'# TYPE {name} histogram\n{name}_bucket{{le="+Inf"}} {done}\n{name}_sum {total}\n{name}_count {done}\n'
        )
    texts += [f"# TYPE {name} gauge\n{name} 0\n" for name in ("tgi_queue_size", "tgi_batch_current_size")]
    return "\n".join(texts) + "\n"


class Tgi(Engine):
    """TGI 3.3.7: router/src/{server,lib,chat,validation,infer/mod}.rs, launcher/src/main.rs at v3.3.7.

    ``stop`` is a list, or serde refuses it; unknown fields are left aside. Every chunk has the role, the last token's
    the reason, and ``usage`` is null in all but its own. A name other than ``tgi`` is an adapter's; one that it has not
    means the model itself (server/text_generation_server/models/flash_causal_lm.py), and is what the answer bears. The
    chat template is that of ``tokenizer_config.json``. Not read: that axum 0.7 writes a blank after ``data:``.
    """

    name = "tgi"
    program = "text-generation-launcher"
    values = f"""
        {Tgi101.values} --speculate --kv-cache-dtype --max-top-n-tokens --max-input-tokens --max-batch-size
        --cuda-graphs --prometheus-port --otlp-service-name --api-key --tokenizer-config-path --max-client-batch-size
        --lora-adapters --usage-stats --payload-limit --graceful-termination-timeout
    """
    switches = f"{Tgi101.switches} --disable-grammar-support --enable-prefill-logprobs"
    choices: ClassVar = {**Tgi101.choices, "--usage-stats": ("on", "off", "no-stack")}
    defaults: ClassVar = {"--port": "3000", "--max-stop-sequences": "4", "--max-total-tokens": "4096"}
    unknown = CLAP
    headers: ClassVar = {}
    not_found = not_allowed = ("text/plain", "")
    trims = False
    finishes: ClassVar = {"length": "length", "eos": "stop", "stop": "stop_sequence"}

    def gets(self, path: str) -> object:
        model, total = str(self.flags["model_id"]), int(self.flags["max_total_tokens"])
        info = {"model_id": model, "model_sha": None, "model_pipeline_tag": None, "max_concurrent_requests": 128}
        info |= {"max_best_of": 2, "max_stop_sequences": 4, "max_total_tokens": total, "version": "3.3.7"}
        tells = {"/info": info, "/metrics": tgi_metrics(self.state), "/v1/models": models(model, model)}
        return "" if path in {"/health", "/", "/ping"} else tells.get(path)

    def answer(self, body: Json, _path: str) -> Answer:
        if isinstance(body.get("stop"), str):
            why = f"stop: invalid type: string {json.dumps(body['stop'])}, expected a sequence"
            raise Refused(422, f"Failed to deserialize the JSON body into the target type: {why}")
        prompt = templated(self.flags["model_id"], body["messages"], file=False)
        limit = body.get("max_tokens", body.get("max_completion_tokens"))
        limit = int(self.flags["max_total_tokens"]) - tokens_of(prompt) if limit is None else limit
        try:
            tgi_check_lengths(prompt, limit, stops(body), self.flags)
        except Refused as refused:
            if not streams(body):
                raise
            error = {"message": refused.body["error"], "http_status_code": 422}  # type: ignore[index]  # it is JSON
            return Answer(Made((), "length"), events=iter([event(compact({"error": error})), DONE]))
        said = self.said(generate(prompt, limit, stops(body)), prompt)
        named = body.get("model", "tgi")
        made, of = said.made, chat("", self.flags["model_id"] if named == "tgi" else named, stream=streams(body))
        of = {"object": of.pop("object"), **of, "system_fingerprint": "3.3.7-native"}
        if streams(body):
            return replace(said, events=self.events(said, of, usage=wants_usage(body)))
        message = {"role": "assistant", "content": "".join(made.texts)}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": said.finish}
        more = {"x-prompt-tokens": str(said.prompt_tokens), "x-generated-tokens": str(said.output_tokens)}
        whole = compact(of | {"choices": [choice], "usage": said.usage(*TOTAL_LAST)}).encode()
        return replace(said, whole=whole, headers=tgi_headers(said, prompt) | more)

    @staticmethod
    def events(said: Answer, of: Json, *, usage: bool) -> Iterator[bytes]:
        for i, text in enumerate(paced(said.made.texts)):
            finish = said.finish if i == len(said.made.texts) - 1 else None
            choice = {"index": 0, "delta": {"role": "assistant", "content": text}, "logprobs": None}
            yield event(compact(of | {"choices": [choice | {"finish_reason": finish}], "usage": None}))
        if usage:
            yield event(compact(of | {"choices": [], "usage": said.usage(*TOTAL_LAST)}))
        yield DONE


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


ENGINES: Mapping[str, type[Engine]] = {
    engine.name: engine for engine in (Vllm013, Tgi101, Tgi, Sglang, TensorrtLlm, Lmdeploy, Ollama)
}


def handler(engine: Engine) -> type[BaseHTTPRequestHandler]:
    """Serves an engine, and keeps a record of what was asked."""
    record, lock = os.environ.get("EXACT_SERVER_RECORD"), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_: object) -> None:
            pass

        def note(self, **said: object) -> None:
            if record:
                of = {"engine": engine.name, "method": self.command, "path": self.path, "at": time.time()}
                of["request_id"] = self.headers.get("x-request-id")
                with lock, Path(record).open("a") as file:
                    file.write(json.dumps({**of, **said}) + "\n")

        def begin(self, status: int, headers: Mapping[str, str]) -> None:
            self.send_response_only(status)  # without a name of Python's
            for name, value in {**engine.headers, **headers}.items():
                self.send_header(name, value)
            self.end_headers()

        def say(self, status: int, kind: str, body: bytes, headers: Mapping[str, str] | None = None) -> None:
            self.begin(status, {"content-type": kind, "content-length": str(len(body)), **(headers or {})})
            self.wfile.write(body)

        def tell(self, status: int, told: object) -> None:
            if isinstance(told, str):
                self.say(status, "text/plain; charset=utf-8", told.encode())
            else:
                self.say(status, "application/json", compact(told).encode())

        def lack(self, *, there: bool) -> None:
            kind, text = engine.not_allowed if there else engine.not_found
            self.say(405 if there else 404, kind, text.encode())

        def do_GET(self) -> None:
            self.note()
            told = engine.gets(self.path)
            if told is None:
                self.lack(there=self.path in engine.posts)
            else:
                self.tell(200, told)

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers.get("content-length", 0)))
            if self.path not in engine.posts:
                self.note(status=404)
                self.lack(there=engine.gets(self.path) is not None)
                return
            body = json.loads(raw)
            try:
                answer = engine.answer(body, self.path)
            except Refused as refused:
                self.note(status=refused.status, body=body)
                self.tell(refused.status, refused.body)
                return
            shown = answer.made.trimmed if engine.trims else answer.made.texts
            counts = {"output_tokens": answer.output_tokens, "words": sum(map(bool, shown))}
            counts |= {"prompt_tokens": answer.prompt_tokens}
            self.note(status=200, body=body, finish=answer.finish, **counts)
            try:
                (self.stream if answer.events else self.send_whole)(answer)
            except OSError:  # the client has gone
                self.close_connection = True

        def send_whole(self, answer: Answer) -> None:
            time.sleep(TOKEN_S * len(answer.made.texts))
            engine.count(answer)
            self.say(200, "application/json", answer.whole, answer.headers)

        def stream(self, answer: Answer) -> None:
            about = {"content-type": "text/event-stream", "transfer-encoding": "chunked"}
            self.begin(200, about | dict(answer.headers))
            held = b""
            for data in answer.events or ():
                self.send_chunk(held)
                held = data
            engine.count(answer)  # before the end is told, so that who knows it finds the count complete
            self.send_chunk(held)
            self.wfile.write(b"0\r\n\r\n")

        def send_chunk(self, data: bytes) -> None:
            if data:
                self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    return Handler


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


def main() -> None:
    match sys.argv[1:]:
        case ["--engine", name, *words] if name in ENGINES:
            engine = ENGINES[name](words)
        case _:
            end(f"usage: exact_server.py --engine {{{','.join(ENGINES)}}} ...")
    server = Server(("127.0.0.1", engine.port), handler(engine))
    sys.stdout.write(f"{engine.name} listens at {engine.port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
