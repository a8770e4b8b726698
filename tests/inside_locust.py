"""What is tested inside a process that gevent has patched; ``test_distributed.py`` runs it in one of its own."""

import signal
import socket
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import msgspec
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.clock import MS, SECOND, Ns, now
from loadgen.harness import messages, waiter
from loadgen.harness.clocks import is_far_off, offset
from loadgen.harness.exporting import Exporter
from loadgen.harness.messages import Clock, Hello, Orders, Ready, Report
from loadgen.harness.team import Workers
from loadgen.record import Outcome, Phase, RequestRecord
from loadgen.scenario import Scenario
from loadgen.version import VERSION


class StandInRunner:
    """What of Locust's master our side of it uses; its one worker answers at once."""

    def __init__(self) -> None:
        self.handlers: dict[str, Callable[..., None]] = {}
        node = SimpleNamespace(id="w", state="ready")
        self.clients = SimpleNamespace(all=[node], get={"w": node}.get)

    def register_message(self, name: str, handler: Callable[..., None]) -> None:
        self.handlers[name] = handler

    def send_message(self, name: str, data: dict[str, Any] | None, client_id: str) -> None:
        if name == messages.CLOCK:
            asked = messages.unpack(data or {}, Clock)
            self.comes(name, client_id, Clock(asked_ns=asked.asked_ns, monotonic_ns=1, realtime_ns=time.time_ns()))
        if name == messages.BEGIN:
            order = messages.unpack(data or {}, Orders)
            self.comes(messages.READY, client_id, Ready(run_id=order.run_id))

    def comes(self, name: str, client_id: str, message: msgspec.Struct) -> None:
        self.handlers[name](msg=SimpleNamespace(node_id=client_id, data=messages.pack(message)))


def mustered() -> tuple[Workers, list[Report]]:
    runner = StandInRunner()
    master = SimpleNamespace(guard=lambda action: action, note_workers_bug=lambda _worker: None)
    workers, taken = Workers(runner, master), []  # type: ignore[arg-type, var-annotated]
    runner.comes(messages.HELLO, "w", Hello(version=VERSION, host="h", pid=1, parent=None, has_key=False))
    workers.muster(forked=False, has_key=False)
    whole = Orders(
        run_id="this",
        number=0,
        shard=0,
        shards=1,
        scenario={},
        engine="endpoint",
        model="m",
        host="http://h",
        sample=[],
        stop=(),
        planned=None,
        stop_timeout_s=1.0,
        folder="/nowhere",
        manifest=b"",
    )
    workers.enlist(whole, taken.append)
    return workers, taken


def a_report(run_id: str = "this", worker: int = 1, sequence: int = 1) -> dict[str, Any]:
    report = Report(
        run_id=run_id,
        worker=worker,
        sequence=sequence,
        records=[],
        histograms={},
        started=sequence,
        in_flight=0,
        settled_ns=0,
        cpu_share=None,
    )
    return {messages.REPORT: messages.pack(report), "stats": []}


def test_reports_are_taken_once() -> None:
    workers, taken = mustered()
    for sequence in (1, 1, 2, 1, 2, 3):
        workers.heard("w", a_report(sequence=sequence))
    assert [report.sequence for report in taken] == [1, 2, 3]
    assert workers.facts[0].started_requests == 3


def test_reports_of_others_are_dropped() -> None:
    workers, taken = mustered()
    workers.heard("stranger", a_report())
    workers.heard("w", a_report(run_id="another"))
    workers.heard("w", a_report(worker=2))
    workers.heard("w", {messages.REPORT: {"packed": b"\xc1"}})
    workers.heard("w", {"stats": []})
    assert taken == []
    assert workers.facts[0].started_requests is None


def test_a_report_leaves_nothing_of_ours_to_locust() -> None:
    workers, _ = mustered()
    data = a_report()
    workers.heard("w", data)
    assert data == {"stats": []}


NS = st.integers(0, 10 * SECOND)


@given(asked=st.integers(0, 10**18), there=NS, back=NS, true=st.integers(-(10**18), 10**18))
def test_the_true_offset_of_a_clock_lies_within_the_uncertainty(asked: int, there: int, back: int, true: int) -> None:
    found = offset(Clock(asked_ns=asked, monotonic_ns=asked + there - true), asked + there + back, 0)
    assert abs(found.monotonic_ns - true) <= found.uncertainty_ns


@given(asked=st.integers(0, 10**18), there=NS, back=NS)
def test_clocks_of_one_machine_are_not_shifted(asked: int, there: int, back: int) -> None:
    found = offset(Clock(asked_ns=asked, monotonic_ns=asked + there), asked + there + back, 0)
    assert found.monotonic_ns == 0


@given(there=NS, back=NS, wall_ms=st.integers(-5000, 5000))
def test_a_wall_clock_is_far_off_only_where_it_cannot_be_otherwise(there: int, back: int, wall_ms: int) -> None:
    realtime = 10**18
    answered = Clock(asked_ns=0, monotonic_ns=there, realtime_ns=realtime + there + wall_ms * MS)
    found = offset(answered, there + back, realtime + there + back)
    assert abs(found.wall_ms - wall_ms) <= found.uncertainty_ns / MS + 1e-3
    if abs(wall_ms) <= 1000:
        assert not is_far_off(found)


def test_a_clock_an_hour_ahead_is_put_right_and_named_far_off() -> None:
    hour = 3600 * SECOND
    found = offset(Clock(asked_ns=0, monotonic_ns=hour + MS, realtime_ns=10**18 + hour), 2 * MS, 10**18 + MS)
    assert (found.monotonic_ns, found.uncertainty_ns) == (-hour, MS)
    assert found.wall_ms == pytest.approx(3_600_000)
    assert is_far_off(found)


def test_a_hanging_exporter_that_has_much_to_read_does_not_hold_the_end_up() -> None:
    exporter = Exporter(Scenario(metrics="127.0.0.1:0"))
    psutil.Process(exporter._process.pid).suspend()
    record = RequestRecord(request_id="r" * 1000, phase=Phase.MEASURE, outcome=Outcome.OK, worker=0, prompt_row=0)
    report = Report(
        run_id="r",
        worker=0,
        sequence=1,
        records=[record] * 3000,
        histograms={},
        started=1,
        in_flight=0,
        settled_ns=0,
        cpu_share=None,
    )
    exporter.batch(report)
    assert len(exporter._pending) > 1 << 20
    exporter.close()
    assert exporter._process.returncode == -signal.SIGKILL


def test_an_address_that_answered_comes_first_also_when_the_name_is_looked_up_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    numbers = ["10.0.0.1", "10.0.0.2", "10.0.0.3"]

    def resolver(_host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (number, port)) for number in numbers]

    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    monkeypatch.setattr(waiter, "RESOLVED_FOR_S", 0)
    waits = waiter.GeventWaiter()
    due = Ns(now() + 60 * SECOND)
    first = waits.resolve("engine", 80, due)
    assert [address[0] for _, address in first] == numbers
    waits.prefer("engine", 80, first[2])
    assert [address[0] for _, address in waits.resolve("engine", 80, due)] == ["10.0.0.3", "10.0.0.1", "10.0.0.2"]
    numbers.pop()
    assert [address[0] for _, address in waits.resolve("engine", 80, due)] == ["10.0.0.1", "10.0.0.2"]
