"""What goes out to an engine beside the prompt: by what the engine can do itself, and by what is known of the model."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from conftest import Finished, Locust
from serving import DONE, Request, ScriptServer, Step, event, response, serving, stream, token, usage

from loadgen.engines.catalogue import ENGINES
from loadgen.errors import EngineError
from loadgen.launch.chat import applied, chat_for
from loadgen.models.template import render, template_text
from loadgen.request import Message
from loadgen.results.launched import Launched
from loadgen.scenario import resolve
from loadgen.workload.datasets import load
from loadgen.workload.prompts import Prompt

FEW = ("--sample", "2", "--warmup", "1", "--max-tokens", "8")


def bodies(server: ScriptServer) -> list[dict[str, Any]]:
    return [json.loads(request.body) for request in server.requests]


def chat(_number: int, request: Request) -> Sequence[Step]:
    """Three tokens, whatever is asked."""
    if json.loads(request.body)["stream"]:
        return stream(token("a"), token("b"), token("c", "stop"), usage(3), DONE)
    usage_of = {"prompt_tokens": 7, "completion_tokens": 3}
    message = {"role": "assistant", "content": "a b c"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return [(0.0, response(json.dumps({"choices": [choice], "usage": usage_of}).encode()))]


def tgi(_number: int, request: Request) -> Sequence[Step]:
    """Both native routes."""
    details = {"finish_reason": "length", "generated_tokens": 2, "seed": None}
    if request.path == "/generate":
        return [(0.0, response(json.dumps({"generated_text": "on it", "details": details}).encode()))]
    first = {"token": {"id": 1, "text": "on", "logprob": -1.0, "special": False}, "generated_text": None}
    last = {"token": {"id": 2, "text": " it", "logprob": -1.0, "special": False}, "generated_text": "on it"}
    return stream(*(event(json.dumps(said)) for said in (first, last | {"details": details})))


@pytest.mark.parametrize("no_stream", [(), ("--no-stream",)], ids=["streamed", "whole"])
def test_prompts_are_made_here_for_an_engine_without_a_chat_route(locust: Locust, no_stream: tuple[str, ...]) -> None:
    with serving(tgi) as server:
        done = locust("--host", server.url, "--engine", "tgi-1.0.1", "--model", "falcon-7b-instruct", *FEW, *no_stream)
    done.assert_ended_well()
    assert {request.path for request in server.requests} == {"/generate" if no_stream else "/generate_stream"}
    first, *sent = bodies(server)
    assert first["inputs"] == "Hello."
    texts = {prompt.row: prompt.text for prompt in load("samples").prompts}
    rows = [r.prompt_row for r in done.records]
    assert [s["inputs"] for s in sent] == [render(template_text("falcon"), texts[row]) for row in rows]
    assert all(s["parameters"]["stop"] == ["\nUser"] for s in sent)
    assert (done.manifest["prompts_made_by"], done.manifest["stop"]) == ("client", ["\nUser"])
    report = (done.folder / "report.md").read_text()
    assert "| prompts | made of the chat by its template here |" in report
    assert "stop strings sent" in report


def test_a_model_that_nobody_knows_is_sent_its_prompt_as_it_is(locust: Locust) -> None:
    with serving(tgi) as server:
        done = locust("--host", server.url, "--engine", "tgi-1.0.1", "--model", "mine", *FEW)
    texts = {prompt.text for prompt in load("samples").prompts}
    assert all(sent["inputs"] in texts for sent in bodies(server)[1:])
    assert done.manifest["prompts_made_by"] == "nobody"
    assert "sent as they are, without a chat template" in (done.folder / "report.md").read_text()


def run(locust: Locust, engine: str, *more: str) -> tuple[Finished, list[dict[str, Any]]]:
    with serving(chat) as server:
        done = locust("--host", server.url, "--engine", engine, "--model", "falcon-7b-instruct", *FEW, *more)
    return done, bodies(server)


@pytest.mark.parametrize(
    ("engine", "stop"), [("vllm-0.1.3", ["\nUser"]), ("vllm", ["\nUser"]), ("transformers-4.31.0", None)]
)
def test_stop_strings_go_to_engines_that_do_not_know_them(locust: Locust, engine: str, stop: object) -> None:
    done, sent = run(locust, engine)
    done.assert_ended_well()
    assert [body.get("stop") for body in sent] == [stop] * 4


@pytest.mark.parametrize(
    ("engine", "fields"),
    [
        ("vllm", {"ignore_eos": True}),
        ("endpoint", {"ignore_eos": True}),
        ("transformers", {"generation_config": '{"min_new_tokens": 8}'}),
    ],
)
def test_answers_of_one_length_are_asked_for_as_each_engine_knows_it(
    locust: Locust, engine: str, fields: Mapping[str, object]
) -> None:
    done, sent = run(locust, engine, "--ignore-eos")
    assert done.status == 3, done.err
    (check,) = [c for c in done.summary["verdict"]["checks"] if c["name"] == "output lengths"]
    assert (check["status"], "2 answers ended by themselves" in check["value"]) == ("invalid", True)
    assert all(body.items() >= fields.items() and "stop" not in body for body in sent[1:])
    assert len(sent) == 4


@pytest.mark.parametrize("engine", ["tgi", "ollama", "transformers-4.31.0"])
def test_answers_of_one_length_are_refused_where_an_engine_cannot_be_asked(locust: Locust, engine: str) -> None:
    done, sent = run(locust, engine, "--ignore-eos")
    assert done.status == 2
    assert "--ignore-eos: " in done.err
    assert "cannot be asked for that" in done.err
    assert sent == []


def test_a_server_that_refuses_the_field_is_found_out_before_the_run(locust: Locust) -> None:
    refusal = response(b'{"detail":"Unexpected fields in the request: {\'ignore_eos\'}"}', status="422 Unprocessable")
    with serving([(0.0, refusal)]) as server:
        done = locust("--host", server.url, "--engine", "vllm", *FEW, "--ignore-eos")
    assert done.status == 2
    assert "Unexpected fields in the request: {'ignore_eos'}" in done.err


def test_what_the_server_told_and_what_a_tokenizer_counts_stand_beside_each_other(
    locust: Locust, tmp_path: Any
) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"a": 0, "b": 1, "c": 2, "?": 3}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    done, _ = run(locust, "transformers-4.31.0", "--no-stream", "--tokenizer", str(tmp_path))
    measured = done.records[1:]
    assert [(r.usage_tokens, r.output_tokens, r.text_tokens) for r in measured] == [(3, 4, 3)] * 2
    assert done.summary["tokens"]["counts"] == {"usage": 6, "tokenizer": 6, "chunks": None, "put_right": 2}
    text = "| output tokens by source | usage 6 and 2 left out by it; tokenizer 6 |"
    assert text in (done.folder / "report.md").read_text()


def test_text_of_more_tokens_than_were_counted_is_a_warning(locust: Locust, tmp_path: Any) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    done, _ = run(locust, "vllm", "--no-stream", "--tokenizer", str(tmp_path))
    (check,) = [c for c in done.summary["verdict"]["checks"] if c["name"] == "token counts"]
    assert check["status"] == "warn"
    assert "10 tokens in the text by the tokenizer, 6 counted" in check["value"]


NAMED = b'{"chat_template": [{"name": "default", "template": "Q {{ messages[0].content }}"}]}'


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"chat_template.jinja": b"{{ messages[0].content + 1 }}"}, "TypeError"),
        ({"chat_template.jinja": b"{{ raise_exception('only systems') }}"}, "TemplateError: only systems"),
        ({"chat_template.jinja": b"{% for"}, "TemplateSyntaxError"),
        ({"chat_template.jinja": b"\xff\xfe", "tokenizer_config.json": b"[1]"}, None),
        (
            {"tokenizer_config.json": NAMED},
            "",
        ),
    ],
)
def test_a_models_own_template_is_rendered_or_told_to_be_wrong(
    tmp_path: Path, files: Mapping[str, bytes], said: str | None
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    chat = chat_for(ENGINES["tgi-1.0.1"], launched_of(tmp_path), "mine", resolve({}))
    if said is None:
        assert chat.template is None
    elif said:
        with pytest.raises(EngineError, match=f"cannot be rendered here: {said}"):
            chat.check([Prompt(1, "Why?")])
    else:
        chat.check([Prompt(1, "Why?")])
        assert chat.template is not None
        assert applied(chat.template)([Message("user", "Why?")]) == "Q Why?"


def launched_of(folder: Path) -> Launched:
    """An engine that was started on a folder."""
    about = {"engine": "tgi-1.0.1", "title": "TGI 1.0.1", "model": "mine", "serves": "mine", "runs_in": "container"}
    more = {"source": str(folder), "dtype": "float16", "weights": "trained", "context": 2048, "variables": {}}
    return msgspec.convert(about | more | {"commands": []}, Launched)
