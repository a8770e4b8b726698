"""chat.py's user, in a process that keeps records and nothing else: no histograms, no live figures."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[3] / "locustfiles"))
from chat import Chat

from loadgen.measure.process_report import ProcessReport
from loadgen.run import reporter
from loadgen.run.reports import Reports

__all__ = ["Chat"]


def _take(reports: Reports, report: ProcessReport) -> None:
    reports._last[report.worker] = report  # noqa: SLF001
    if report.done:
        reports.woken.set()


reporter.histograms = lambda _records: {}
Reports.take = _take  # type: ignore[method-assign]
