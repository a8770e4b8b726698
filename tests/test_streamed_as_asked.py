"""Whether answers came as the streams that were asked for, and showed all that was counted: whole runs."""

import json
from collections.abc import Sequence
from pathlib import Path

from conftest import Locust, read_in_time, records_of
from serving import DONE, SSE_HEAD, Request, Step, chunk, event, response, serving, stream, token

FEW = ("--warmup", "1", "--max-tokens", "64")
COUNTS = {"prompt_tokens": 7, "completion_tokens": 40}


def test_a_json_answer_to_a_request_for_a_stream_is_told(locust: Locust) -> None:
    said = {"choices": [{"message": {"content": "Yes. " * 40}, "finish_reason": "stop"}], "usage": COUNTS}
    with serving([(0.01, response(json.dumps(said).encode()))]) as server:
        done = locust("--host", server.url, *FEW, "--sample", "6")
    check = done.checks["answers streamed as asked"]
    assert (check["status"], check["value"]) == ("warn", "6 of 6 as one JSON document, not streamed")
    assert "answers not streamed, though streams were asked for" in " ".join(done.out.split())
    assert done.summary["streamed"] is False


def test_an_answer_in_one_event_is_told(locust: Locust) -> None:
    whole = stream(token("word " * 40, "stop"), event(json.dumps({"choices": [], "usage": COUNTS})), DONE, pause=0.02)
    with serving(whole) as server:
        done = locust("--host", server.url, *FEW, "--sample", "6")
    check = done.checks["answers streamed as asked"]
    assert (check["status"], check["value"]) == ("warn", "6 of 6 with all tokens in one event")


def test_tokens_that_come_in_bursts_are_told(locust: Locust) -> None:
    burst = b"".join(chunk(token("word ")) for _ in range(20))
    end = chunk(token("w", "stop")) + chunk(
        event(json.dumps({"choices": [], "usage": COUNTS | {"completion_tokens": 61}}))
    )
    with serving([(0.0, SSE_HEAD), *[(0.15, burst)] * 3, (0.0, end + chunk(DONE) + b"0\r\n\r\n")]) as server:
        done = locust("--host", server.url, *FEW, "--sample", "6")
    check = done.checks["answers streamed as asked"]
    if read_in_time(done.records):
        assert check["status"] == "warn", check
        assert "tokens came at a time" in check["value"]


def test_hidden_reasoning_is_left_out_of_tpot(locust: Locust) -> None:
    """50 tokens are thought out of sight, 10 are shown, 30 ms apart."""
    details = {"completion_tokens_details": {"reasoning_tokens": 50}}
    counted = event(json.dumps({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 60} | details}))
    shown = [token("word ", "stop" if n == 9 else None) for n in range(10)]
    with serving(stream(*shown, counted, DONE, pause=0.03)) as server:
        done = locust("--host", server.url, *FEW, "--sample", "30")
    assert {(r.output_tokens, r.reasoning_tokens, r.hidden_tokens) for r in records_of(done.folder)} == {(60, 50, 50)}
    tpot = done.summary["latency"]["tpot_ms"]["p50"]
    assert tpot >= 30  # no token came sooner, and 59 would have made it 4.6
    assert "1,500 hidden tokens are left out of TPOT" in done.checks["all counted tokens shown"]["value"]


def test_tokens_that_are_counted_and_not_shown_are_told(locust: Locust) -> None:
    """What a parser withholds has no name in the usage."""
    counted = event(json.dumps({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 60}}))
    shown = [token("ab ", "stop" if n == 9 else None) for n in range(10)]
    with serving(stream(*shown, counted, DONE, pause=0.02)) as server:
        done = locust("--host", server.url, *FEW, "--sample", "6")
    check = done.checks["all counted tokens shown"]
    assert check["status"] == "warn"
    assert "6.0 tokens a chunk, 0.5 characters a token" in check["value"]


def test_prompts_of_the_same_text_are_repeated_prompts(locust: Locust, tmp_path: Path) -> None:
    (tmp_path / "same.jsonl").write_text('{"prompt": "Why?"}\n' * 40)

    def script(_number: int, _request: Request) -> Sequence[Step]:
        return stream(token("a"), token("b", "stop"), DONE)

    with serving(script) as server:
        done = locust(
            "--host", server.url, "--dataset", str(tmp_path / "same.jsonl"), "--sample", "30", "--warmup", "0"
        )
    check = done.checks["prompts not from a cache"]
    assert check["value"] == "29 of 30 requests repeated a prompt"
    assert "29 of the 30 prompts have the text of another" in done.err
