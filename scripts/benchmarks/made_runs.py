"""Results folders of any size, made without a run: what the report is measured on.

Times and lengths are drawn, nothing queues: TTFT is lognormal around 60 ms, tokens come 10 ms apart with a jitter of a
tenth, answers have 150 tokens on average. A record has the fields that one of chat.py has.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.simulators.runs import SEED, manifest, worker
from loadgen.clock import MS, SECOND
from loadgen.measure.facts import Arrivals, StepFacts
from loadgen.record import CountedBy, Outcome, Phase, RequestRecord, to_line
from loadgen.results.manifest import Ended, Kind, Manifest, to_json
from loadgen.results.store import MANIFEST, RECORDS
from loadgen.workload.arrivals import schedule

USERS = 256
STEPS = tuple(2**k for k in range(11))
"""Users of a sweep's steps. Each step lasts as long as the others, so that the last has half of the records."""
RATE = 200.0
"""Requests per second of an open loop."""

_BOOT_NS = 50_000 * SECOND
_TTFT_MS, _TTFT_SIGMA, _TPOT_MS, _JITTER, _MEAN_TOKENS, _PAUSE_NS = 60.0, 0.4, 10.0, 0.1, 150, 500_000
_ROWS = 100
_EDGE = 0.05
"""Share of a step that is in no window, at its beginning and at its end."""

Times = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Answers:
    """Requests and their answers, one element each; times in ns."""

    sent: Times
    first: Times
    end: Times
    tokens: Times
    user: Times | None = None
    step: Times | None = None
    scheduled: Times | None = None

    def in_order(self) -> "Answers":
        """Return them in the order of their ends, as a run records them."""
        order = np.argsort(self.end, kind="stable")
        columns = (self.sent, self.first, self.end, self.tokens, self.user, self.step, self.scheduled)
        return Answers(*(None if column is None else column[order] for column in columns))  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Length:
    """How long answers are, and whether each arrival of a token is recorded."""

    tokens: int | None = None
    """None: geometric."""
    token_by_token: bool = False


def _closed(users: int, each: int, began: int, length: Length, rng: np.random.Generator) -> Answers:
    """Return the answers to users who each ask so many times, one question after another."""
    shape = (users, each)
    ttft, decode, tokens = _drawn(shape, length, rng)
    starts = began + rng.integers(0, SECOND, (users, 1))
    ends = starts + np.cumsum(ttft + decode + _PAUSE_NS, axis=1) - _PAUSE_NS
    sent = ends - ttft - decode
    who = np.repeat(np.arange(users), each)
    return Answers(sent.ravel(), (sent + ttft).ravel(), ends.ravel(), tokens.ravel(), who)


def _drawn(shape: tuple[int, ...], length: Length, rng: np.random.Generator) -> tuple[Times, Times, Times]:
    """Return times to the first token, times from it to the last, and numbers of tokens."""
    ttft = (rng.lognormal(np.log(_TTFT_MS), _TTFT_SIGMA, shape) * MS).astype(np.int64)
    tokens = np.full(shape, length.tokens) if length.tokens else rng.geometric(1 / _MEAN_TOKENS, shape)
    spread = rng.standard_normal(shape) * _JITTER * np.sqrt(tokens)
    decode = np.maximum(1, (tokens - 1 + np.where(tokens > 1, spread, 0)) * _TPOT_MS * MS).astype(np.int64)
    return ttft, np.where(tokens > 1, decode, 0), tokens.astype(np.int64)


def _closed_loop(records: int, length: Length, rng: np.random.Generator) -> tuple[Manifest, Answers]:
    users = min(USERS, records // 30)
    answers = _closed(users, records // users, _BOOT_NS, length, rng)
    return _manifest("throughput", len(answers.sent), users=users), answers


def _sweep(records: int, length: Length, rng: np.random.Generator) -> tuple[Manifest, Answers]:
    each = max(1, records // sum(STEPS))
    parts, facts, began = [], [], _BOOT_NS
    for number, users in enumerate(STEPS):
        part = _closed(users, each, began, length, rng)
        ended = int(part.end.max())
        edge = int(_EDGE * (ended - began)) + SECOND
        span = (began + edge, ended - edge)
        facts.append(StepFacts(number=number, concurrency=users, began_ns=began, window_ns=span, ended_by="step-time"))
        parts.append(part)
        began = ended + SECOND
    step = np.repeat(np.arange(len(STEPS)), [len(part.sent) for part in parts])
    sent, first, end, tokens, user = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("sent", "first", "end", "tokens", "user")
    )
    answers = Answers(sent, first, end, tokens, user=user, step=step)
    return _manifest("throughput", len(step), users=max(STEPS), steps=facts, planned_requests=None), answers


def _open_loop(records: int, length: Length, rng: np.random.Generator) -> tuple[Manifest, Answers]:
    due = _BOOT_NS + np.fromiter(islice(schedule("poisson", RATE, 1.0, SEED), records), dtype=np.int64)
    sent = due + rng.integers(20_000, 200_000, records)
    ttft, decode, tokens = _drawn((records,), length, rng)
    asked = Arrivals(process="poisson", rate=RATE, cv=1.0, max_in_flight=4096, epoch_ns=_BOOT_NS)
    found = _manifest("rate", records, users=1, arrivals=asked)
    return found, Answers(sent, sent + ttft, sent + ttft + decode, tokens, scheduled=due)


LOADS: Mapping[str, Callable[[int, Length, np.random.Generator], tuple[Manifest, Answers]]] = {
    "closed": _closed_loop,
    "sweep": _sweep,
    "open": _open_loop,
}


def _manifest(kind: Kind, records: int, **more: Any) -> Manifest:  # noqa: ANN401 fields of Manifest
    ended = Ended(reason="completed", at="2026-01-01T00:00:00+00:00", started_requests=records)
    usual: dict[str, Any] = {
        "planned_requests": records,
        "ended": ended,
        "workers": [worker(0, records)],
        "counters": None,
    }
    found = manifest(kind, (), **usual | more)
    return msgspec.structs.replace(found, dataset={"name": "made", "sample_rows": list(range(_ROWS))})


def make(folder: Path, load: str, records: int, length: Length) -> int:
    """Write a results folder of about so many records; return how many it has."""
    rng = np.random.default_rng([SEED, records])
    described, answers = LOADS[load](records, length, rng)
    folder.mkdir(parents=True)
    (folder / MANIFEST).write_bytes(to_json(described))
    with (folder / RECORDS).open("wb") as file:
        file.writelines(map(to_line, _records(answers.in_order(), rng, length)))
    return len(answers.sent)


def _records(answers: Answers, rng: np.random.Generator, length: Length) -> Iterator[RequestRecord]:
    n = len(answers.sent)
    nothing = [None] * n
    optional = [nothing if c is None else c.tolist() for c in (answers.user, answers.step, answers.scheduled)]
    times = zip(answers.sent.tolist(), answers.first.tolist(), answers.end.tolist(), strict=True)
    delays = rng.integers(20_000, 400_000, n).tolist()
    for i, (sent, first, end) in enumerate(times):
        tokens = int(answers.tokens[i])
        user, step, scheduled = (column[i] for column in optional)
        yield RequestRecord(
            request_id=f"20260101-000000-throughput-made-0000-0-{i:06d}",
            trace_id=f"{i:032x}",
            phase=Phase.MEASURE,
            step=step,
            user=user,
            prompt_row=i % _ROWS,
            round=i // _ROWS,
            connection="new",
            connect_ns=sent - 300_000,
            connected_ns=sent - 100_000,
            scheduled_ns=scheduled,
            think_ns=None if user is None else _PAUSE_NS,
            sent_ns=sent,
            first_byte_ns=first - 2_000,
            first_token_ns=first,
            last_token_ns=end,
            end_ns=end,
            stamp="kernel",
            first_token_interval_ns=0,
            last_token_interval_ns=0 if length.token_by_token else 700_000,
            end_interval_ns=0 if length.token_by_token else 700_000,
            lazy=not length.token_by_token,
            read_delay_ns=delays[i],
            max_tokens=4096,
            input_tokens=20 + i % 300,
            output_tokens=tokens,
            counted_by=CountedBy.USAGE,
            usage_tokens=tokens,
            first_chunk_tokens=1,
            streamed=True,
            chunks=tokens,
            coalesced_chunks=0 if length.token_by_token else None,
            output_characters=4 * tokens,
            chunk_ns=_arrivals(first, end, tokens, rng) if length.token_by_token else None,
            outcome=Outcome.OK,
            http_status=200,
            finish_reason="stop",
        )


def _arrivals(first: int, end: int, tokens: int, rng: np.random.Generator) -> list[int]:
    """Return when tokens came, the gaps between them with a jitter."""
    shares = np.cumsum(1 + _JITTER * rng.standard_normal(tokens - 1))
    return [first, *(first + (shares * ((end - first) / shares[-1])).astype(np.int64)).tolist()]


if __name__ == "__main__":
    _, place, of, number, tokens_each = sys.argv
    each = int(tokens_each)
    print(make(Path(place), of, int(number), Length(each or None, token_by_token=bool(each))))
