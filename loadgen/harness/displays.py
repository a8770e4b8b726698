"""Shows a run while it goes on: progress line, Prometheus metrics, the LLM tab of the web UI, Grafana annotations."""

import logging
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gevent

from loadgen.harness import live_data
from loadgen.harness.annotate import annotate
from loadgen.live.result_files import result_files
from loadgen.measure.process_report import ProcessReport
from loadgen.results.grafana import annotations, live_link
from loadgen.results.summary_schema import Summary
from loadgen.run.controller import RunController
from loadgen.run.exporting import Exporter
from loadgen.run.secrets import grafana_token
from loadgen.scenario import Scenario

if TYPE_CHECKING:
    from loadgen.live.progress import Progress

logger = logging.getLogger(__name__)

ANNOTATE_S = 10.0
"""Grafana has this long to take the annotations of a run."""


class Displays:
    """Shows one run after another. It observes their controllers."""

    def __init__(self) -> None:
        self._run: RunController | None = None
        self._progress: Progress | None = None
        self._exporter: Exporter | None = None
        self._grafana_token: str | None = None
        self._annotating: gevent.Greenlet | None = None
        self._last = live_data.IDLE
        self._folder: Path | None = None
        """Of the last run, once it has ended."""

    def check(self, scenario: Scenario) -> None:
        """Read the token for Grafana, if the scenario names one; raises OptionError."""
        self._grafana_token = grafana_token() if scenario.grafana else None

    def prepare(self, scenario: Scenario) -> None:
        """Start the exporter, if the scenario wants one; raises OptionError where it cannot listen."""
        if self._exporter is not None and self._exporter.lost:
            self._exporter.close()
            self._exporter = None
        if self._exporter is None and scenario.metrics != "off":
            self._exporter = Exporter(scenario)

    def begin(self, run: RunController) -> None:
        """Show a run from now on."""
        from loadgen.live.progress import Progress  # rich draws random numbers when it is imported

        self._run, self._progress = run, Progress(run.live)
        self._last, self._folder = live_data.IDLE, None  # nothing of the last run remains, whatever becomes of this one
        link = live_link(run.manifest)
        if link is not None:
            logger.info("Watch it: %s", link if self._exporter else "not possible, as --metrics is off")
        if self._exporter is not None:
            self._exporter.begin(run.manifest)
        self._progress.start()

    def report_taken(self, report: ProcessReport) -> None:
        """Export a report."""
        if self._exporter is not None:
            self._exporter.report(report)

    def ticked(self) -> None:
        """Draw the progress line, and export the state of the run."""
        assert self._progress is not None
        with suppress(OSError):  # the terminal is gone
            self._progress.draw()
        self._export_state()

    def live_data(self) -> dict[str, Any]:
        """Return what the LLM tab shows: the present run, or the last one."""
        run = self._run if self._folder is None else None
        shown = self._last if run is None else live_data.live_data(run)
        return shown | {"files": list(self._files())}

    def file(self, run_id: str, name: str) -> Path | None:
        """Return a file of the run that has ended; None for any other run or name."""
        is_shown = self._folder is not None and run_id == self._folder.name
        return self._files().get(name) if is_shown else None

    def _files(self) -> Mapping[str, Path]:
        """Return the files of the run that has ended, by name; its reports are written when it is shown already."""
        return {} if self._folder is None else result_files(self._folder)

    def end(self, summary: Summary) -> None:
        """Show that the run has ended, and its verdict."""
        run = self._run
        if run is None:
            return
        self._last, self._folder = live_data.ended(live_data.live_data(run), summary), run.folder.path
        if self._progress is not None:
            with suppress(OSError):
                self._progress.stop()
        if self._exporter is not None:
            self._export_state()
            self._exporter.end(summary.verdict)
        if self._grafana_token is not None:
            marks = annotations(run.manifest, summary.verdict.status.value)
            grafana = str(run.manifest.scenario["grafana"])
            self._annotating = gevent.spawn(annotate, grafana, self._grafana_token, marks)

    def forget_run(self) -> None:
        """Show the last data only: the run is over."""
        self._run = None

    def close(self) -> None:
        """Let Grafana take its annotations, and the exporter end once it has been scraped."""
        if self._annotating is not None:
            self._annotating.join(ANNOTATE_S)
            self._annotating.kill()
        if self._exporter is not None:
            self._exporter.close()
            self._exporter = None

    def _export_state(self) -> None:
        run = self._run
        if self._exporter is not None and run is not None:
            users = None if run.manifest.arrivals else run.manifest.users
            self._exporter.tick(run.live, users=users, workers=len(run.worker_facts()), lost=run.load.lost)
