"""Metrics by name, from a real exporter process."""

import time
from collections.abc import Iterator, Sequence

import pytest
from scraping import samples, scrape
from test_by_name import FIRST, SECOND, named, one_user
from test_hostile_text import EVIL
from test_results import manifest

from loadgen.measure.names import MOST, OTHER, label
from loadgen.measure.process_report import ProcessReport
from loadgen.record import Outcome, RequestRecord
from loadgen.run.exporting import Exporter
from loadgen.scenario import Scenario

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture
def exporter() -> Iterator[Exporter]:
    started = Exporter(Scenario(metrics="127.0.0.1:0"))
    started.begin(manifest())
    yield started
    started.close()


def report(records: Sequence[RequestRecord], sequence: int = 1) -> ProcessReport:
    return ProcessReport(
        run_id="r",
        worker=0,
        sequence=sequence,
        records=list(records),
        histograms={},
        started=len(records),
        in_flight=0,
        settled_ns=0,
        cpu_share=None,
    )


def scraped(exporter: Exporter, ended: int) -> Samples:
    """All samples, as soon as that many requests are in them."""
    due = time.monotonic() + 60
    while True:
        found = samples(scrape(exporter.url, "a person"))
        if sum(value for (name, _), value in found.items() if name == "llmload_requests_total") == ended:
            return found
        assert time.monotonic() < due
        time.sleep(0.05)


def of_name(found: Samples, metric: str, name: str, **labels: str) -> float | None:
    return found.get((metric, tuple(sorted({"name": name, **labels}.items()))))


def test_each_name_has_its_requests_by_outcome_its_latencies_and_its_tokens(exporter: Exporter) -> None:
    records = named(one_user(None), FIRST, SECOND, SECOND, SECOND)
    broken = RequestRecord(request_id="q", phase=records[0].phase, name=FIRST, outcome=Outcome.REFUSED)
    exporter.report(report([*records, broken]))
    found = scraped(exporter, 41)
    for name, answers in ((FIRST, 10), (SECOND, 30)):
        assert of_name(found, "llmload_requests_by_name_total", name, outcome="ok") == answers
        assert of_name(found, "llmload_request_duration_by_name_seconds_count", name) == answers
        assert of_name(found, "llmload_request_duration_by_name_seconds_sum", name) == pytest.approx(0.15 * answers)
        assert of_name(found, "llmload_time_to_first_token_by_name_seconds_sum", name) == pytest.approx(0.1 * answers)
        assert of_name(found, "llmload_output_tokens_by_name_sum", name) == 5 * answers
        assert of_name(found, "llmload_output_tokens_by_name_bucket", name, le="4") == 0
        assert of_name(found, "llmload_output_tokens_by_name_bucket", name, le="16") == answers
    assert of_name(found, "llmload_requests_by_name_total", FIRST, outcome="refused") == 1
    assert of_name(found, "llmload_requests_by_name_total", SECOND, outcome="refused") == 0


def test_a_run_without_names_has_no_metrics_by_name_until_a_name_comes(exporter: Exporter) -> None:
    records = one_user(None)
    exporter.report(report(records))
    assert not any("by_name" in name for name, _ in scraped(exporter, 40))
    exporter.report(report(named(records, FIRST), sequence=2))
    found = scraped(exporter, 80)
    assert of_name(found, "llmload_requests_by_name_total", FIRST, outcome="ok") == 40
    assert of_name(found, "llmload_requests_by_name_total", OTHER, outcome="ok") == 40


def test_however_many_names_there_are_the_metrics_are_bounded(exporter: Exporter) -> None:
    exporter.report(report(one_user(*(f"name {i}" for i in range(200)), requests=200)))
    found = scraped(exporter, 200)
    names = {dict(labels)["name"] for name, labels in found if "by_name" in name}
    assert names == {f"name {i}" for i in range(MOST)} | {OTHER}
    assert of_name(found, "llmload_requests_by_name_total", OTHER, outcome="ok") == 200 - MOST
    assert sum("by_name" in name for name, _ in found) < 200 * len(names)


def test_a_name_of_any_characters_is_a_label(exporter: Exporter) -> None:
    exporter.report(report(one_user(EVIL, '"} 1\n漢字')))
    found = scraped(exporter, 40)
    assert of_name(found, "llmload_requests_by_name_total", label(EVIL), outcome="ok") == 20
    assert of_name(found, "llmload_requests_by_name_total", '"} 1\\n漢字', outcome="ok") == 20
