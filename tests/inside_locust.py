"""What is tested inside a process that gevent has patched; ``test_distributed.py`` runs it in one of its own."""

import signal
import socket
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from locust.event import Events

from loadgen.clock import SECOND, Ns, now
from loadgen.harness import waiter
from loadgen.harness.transport import listen_to_workers
from loadgen.measure.process_report import ProcessReport
from loadgen.record import Outcome, Phase, RequestRecord
from loadgen.run import messages
from loadgen.run.exporting import Exporter
from loadgen.scenario import Scenario

REPORT = ProcessReport(
    run_id="r", worker=1, sequence=1, records=[], histograms={}, started=1, in_flight=0, settled_ns=0, cpu_share=None
)


@pytest.mark.parametrize(
    ("data", "reports"),
    [
        ({messages.REPORT: messages.pack(REPORT), "stats": []}, 1),
        ({messages.REPORT: {"packed": b"\xc1"}, "stats": []}, 0),
        ({messages.REPORT: "nothing is packed", "stats": []}, 0),
        ({"stats": []}, 0),
    ],
)
def test_a_report_of_locust_leaves_it_nothing_of_ours(data: dict[str, Any], reports: int) -> None:
    taken: list[tuple[str, ProcessReport]] = []
    pool = SimpleNamespace(take_report=lambda *what: taken.append(what), take_hello=None, take_time=None)
    pool.take_ready = pool.take_failure = None
    events = Events()
    runner = SimpleNamespace(register_message=lambda *_: None, environment=SimpleNamespace(events=events))
    listen_to_workers(runner, pool, SimpleNamespace(guard=lambda action: action))  # type: ignore[arg-type]
    events.worker_report.fire(client_id="w", data=data)
    assert taken == [("w", REPORT)] * reports
    assert data == {"stats": []}


def test_a_hanging_exporter_that_has_much_to_read_does_not_hold_the_end_up() -> None:
    exporter = Exporter(Scenario(metrics="127.0.0.1:0"))
    psutil.Process(exporter._process.pid).suspend()
    record = RequestRecord(request_id="r" * 1000, phase=Phase.MEASURE, outcome=Outcome.OK, worker=0, prompt_row=0)
    report = ProcessReport(
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
    exporter.report(report)
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
