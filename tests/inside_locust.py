"""What is tested inside a process that gevent has patched; ``test_distributed.py`` runs it in one of its own."""

import signal
import socket
import time
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from locust.env import Environment
from locust.event import Events

from loadgen.clock import SECOND, Ns, now
from loadgen.harness import waiter
from loadgen.harness.locust_tables import LocustTables
from loadgen.harness.transport import listen_to_workers
from loadgen.measure.names import MOST
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


ROUTE = "/v1/chat/completions"


def answer(name: str | None = None, **changes: Any) -> RequestRecord:
    """An answer that was sent just now, after 150 ms of which 100 ms were for its first token."""
    sent = now()
    values: dict[str, Any] = {
        "request_id": "r",
        "phase": Phase.MEASURE,
        "outcome": Outcome.OK,
        "name": name,
        "sent_ns": sent,
        "first_token_ns": sent + SECOND // 10,
        "end_ns": sent + 3 * SECOND // 20,
        "output_tokens": 5,
    }
    return RequestRecord(**(values | changes))


def locust_tables() -> tuple[LocustTables, Environment, list[dict[str, Any]]]:
    """Locust's tables of a process, its environment, and what its listeners got."""
    environment = Environment(events=Events())
    environment.create_local_runner()
    heard: list[dict[str, Any]] = []
    environment.events.request.add_listener(lambda **what: heard.append(what))
    return LocustTables(environment, "http://engine:8000", ROUTE), environment, heard


def rows(environment: Environment) -> dict[str, int]:
    return {name: entry.num_requests for (name, method), entry in environment.stats.entries.items() if method == "POST"}


def test_a_row_of_locust_is_named_by_the_name_of_its_requests_or_else_by_their_route() -> None:
    tables, environment, _ = locust_tables()
    warm_up = answer("first question", phase=Phase.WARMUP)
    for record in (warm_up, answer(), answer("first question"), answer("first question"), answer("a\x1b[2J")):
        tables.show(record)
    assert rows(environment) == {"warm-up": 1, ROUTE: 1, "first question": 2, "a\\x1b[2J": 1}
    assert environment.stats.get("TTFT, ms", "LLM").num_requests == 4


def test_locust_has_a_bounded_number_of_rows_however_many_names_there_are() -> None:
    tables, environment, _ = locust_tables()
    for number in range(MOST + 10):
        tables.show(answer(f"name {number}"))
    tables.show(answer())
    assert rows(environment) == {f"name {number}": 1 for number in range(MOST)} | {"other": 10, ROUTE: 1}


def test_a_listener_gets_what_it_gets_of_an_http_user() -> None:
    tables, _, heard = locust_tables()
    before = time.time()
    record = answer("first question")
    after = time.time()
    tables.show(record, {"customer": 7, "record": "the user's"})
    (event,) = heard
    assert before - 0.001 <= event.pop("start_time") <= after + 0.001
    assert event == {
        "request_type": "POST",
        "name": "first question",
        "response_time": 150.0,
        "response_length": 0,
        "exception": None,
        "response": None,
        "context": {"customer": 7, "record": record},
        "url": f"http://engine:8000{ROUTE}",
    }


def test_a_request_that_was_not_sent_began_with_its_connection_or_never() -> None:
    tables, _, heard = locust_tables()
    tables.show(answer(outcome=Outcome.REFUSED, sent_ns=None, first_token_ns=None, connect_ns=now() - 2 * SECOND))
    tables.show(answer(outcome=Outcome.DROPPED, sent_ns=None, first_token_ns=None, end_ns=None))
    assert [event["start_time"] and round(time.time() - event["start_time"]) for event in heard] == [2, None]
    assert [event["response_time"] for event in heard] == [None, None]
    assert all(event["exception"] for event in heard)
