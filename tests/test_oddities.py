"""Every oddity of real servers: its outcome, its tokens and its first token, read token by token and lazily."""

import pytest
from asking import question
from oddities import ODDITIES, Oddity, content
from serving import SSE_HEAD, chunk, serving

from loadgen.engines.catalogue import ENGINES
from loadgen.protocol.client import Client, Settings
from loadgen.record import Outcome, RequestRecord
from loadgen.wire.response_reader import Timeouts
from loadgen.wire.target import parse_target
from loadgen.wire.waiting import PollWaiter

PATIENT = Timeouts(connect=30, first_byte=30, idle=30, total=60)
PAUSE_S = 0.005


@pytest.mark.parametrize("how", ["token by token", "lazily"])
@pytest.mark.parametrize("oddity", ODDITIES, ids=lambda oddity: oddity.number)
def test_an_oddity_has_its_outcome_its_tokens_and_its_first_token(oddity: Oddity, how: str) -> None:
    record, sent_at = ask(oddity, lazy=how == "lazily")
    assert (record.outcome, record.finish_reason) == (oddity.outcome, oddity.finish_reason), record.error
    assert oddity.error in (record.error or "")
    expected = (oddity.tokens, oddity.counted_by) if oddity.outcome is Outcome.OK else (None, None)
    assert (record.output_tokens, record.counted_by) == expected
    assert came_with(record, sent_at, oddity.first)
    if oddity.characters is not None and not record.lazy:
        assert record.output_characters == oddity.characters
    for name, value in (oddity.more or {}).items():
        if (name, record.lazy) != ("chunks", True):
            assert getattr(record, name) == value


def test_a_stream_that_only_comments_keep_alive_is_idle_and_the_error_says_so() -> None:
    comment = chunk(b": keep-alive\n\n")
    with serving([(0.0, SSE_HEAD), (0.0, chunk(content("a"))), *[(0.1, comment)] * 50]) as server:
        record = send(server.url, Timeouts(connect=30, first_byte=30, idle=1, total=60))
    assert record.outcome is Outcome.IDLE_TIMEOUT
    assert record.error == "nothing for 1 s in mid-answer, but kept alive by comments: no token"


@pytest.mark.parametrize("silence", [b": keep-alive\n\n", b"\n"], ids=["comments", "empty lines"])
def test_until_the_first_token_the_limit_of_the_first_byte_holds(silence: bytes) -> None:
    with serving([(0.0, SSE_HEAD), *[(0.1, chunk(silence))] * 50]) as server:
        record = send(server.url, Timeouts(connect=30, first_byte=1, idle=0.5, total=60))
    assert record.outcome is Outcome.FIRST_BYTE_TIMEOUT


def ask(oddity: Oddity, *, lazy: bool) -> tuple[RequestRecord, list[int]]:
    """Ask a server that answers so; return the record, and when it sent each part."""
    with serving([(PAUSE_S if number else 0.0, part) for number, part in enumerate(oddity.sends)]) as server:
        record = send(server.url, stream=oddity.stream, lazy=lazy)
        (sent_at,) = server.sent_at
    return record, sent_at


def came_with(record: RequestRecord, sent_at: list[int], part: int | None) -> bool:
    """Tell whether the first token may have come with a part of the response; None: whether there was none.

    A busy machine reads several parts at once; then the record says within which time it came.
    """
    if part is None or record.first_token_ns is None:
        return part is None and record.first_token_ns is None
    earliest = record.first_token_ns - (record.first_token_interval_ns or 0)
    next_at = sent_at[part + 1] if part + 1 < len(sent_at) else record.first_token_ns + 1
    return sent_at[part] <= record.first_token_ns and earliest < next_at


def send(url: str, timeouts: Timeouts = PATIENT, **asked: bool) -> RequestRecord:
    """Make one request."""
    settings = Settings(parse_target(url), ENGINES["endpoint"].api, timeouts)
    return Client(settings, PollWaiter()).send(question(**asked)).record
