"""The description of a run: values, flags, and what is refused."""

from dataclasses import fields

import pytest

from loadgen.errors import OptionError
from loadgen.scenario import Scenario, resolve


def test_the_defaults_are_those_of_the_contract() -> None:
    s = resolve({})
    assert (s.max_tokens, s.temperature, s.sample, s.seed, s.warmup) == (512, 0.0, 100, 42, 5)
    assert (s.model, s.requests, s.stream, s.client, s.keep_alive) == (None, None, True, "own", False)


def test_a_web_form_gives_strings() -> None:
    s = resolve({"sample": "7", "requests": "", "temperature": "0.5", "no_stream": "true", "model": ""})
    assert (s.sample, s.requests, s.temperature, s.stream, s.model) == (7, None, 0.5, False, None)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"sample": 0}, "--sample must be at least 1, got 0"),
        ({"requests": -1}, "--requests must be at least 1"),
        ({"max_tokens": "many"}, "--max-tokens must be a whole number, got 'many'"),
        ({"warmup": -1}, "--warmup must be 0 or more"),
        ({"temperature": -0.1}, "--temperature"),
        ({"temperature": "nan"}, "--temperature"),
        ({"idle_timeout": 0}, "--idle-timeout must be above 0"),
        ({"total_timeout": "inf"}, "--total-timeout"),
        ({"itl_sample": "2"}, "--itl-sample must be"),
        ({"itl_sample": "some"}, "--itl-sample must be"),
        ({"client": "curl"}, "--client must be one of own, openai"),
        ({"client": "openai", "keep_alive": True}, "Drop one"),
        ({"metrics": "9646"}, "--metrics 9646: write ADDR:PORT"),
        ({"metrics_names": "prometheus"}, "--metrics-names must be one of llmload, otel, got 'prometheus'"),
        ({"grafana": "http://me:secret@h"}, "--grafana: write its address, without credentials"),
        ({"tokenizer": "/nowhere"}, "--tokenizer: /nowhere does not exist"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_flag(raw: dict[str, object], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        resolve(raw)


@pytest.mark.parametrize(
    ("itl_sample", "users", "rate", "share"),
    [
        ("auto", 1, 1e6, 1.0),  # one user's stream is always read token by token
        ("auto", 200, 100.0, 1.0),
        ("auto", 400, 100.0, 0.5),
        ("auto", 400, 50.0, 1.0),
        ("auto", 1000, None, 20_000 / 150_000),
        ("0", 1, None, 1.0),
        ("0", 8, None, 0.0),
        ("0.25", 8, 10.0, 0.25),
    ],
)
def test_streams_are_read_token_by_token_as_far_as_their_tokens_allow(
    itl_sample: str, users: int, rate: float | None, share: float
) -> None:
    assert resolve({"itl_sample": itl_sample}).eager_share(users, rate) == pytest.approx(share)


def test_every_option_has_a_help_text() -> None:
    assert all(f.metadata["help"] for f in fields(Scenario))
