"""vLLM 0.1.3, and text-generation-inference 1.0.1 and 3.3.7."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from exact.base import (
    DONE,
    TOTAL_LAST,
    TOTAL_SECOND,
    Answer,
    Engine,
    Json,
    Made,
    Refused,
    State,
    assistant,
    chat,
    compact,
    event,
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
