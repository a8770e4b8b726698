"""What all have in common: what is generated and counted, how it is put into bytes, and an engine's frame."""

import argparse
import hashlib
import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
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
