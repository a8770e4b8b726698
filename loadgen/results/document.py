"""What a report of a run says, in its order; Markdown and the page only differ in how they show it."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from loadgen.measure.check import OBJECTIONS, CheckResult, described, objections
from loadgen.measure.verdict import Verdict
from loadgen.metrics import LIMITS
from loadgen.printable import escaped
from loadgen.results.asked import asked_table
from loadgen.results.counts import causes_of
from loadgen.results.headline import Headline, headline
from loadgen.results.pictures.catalogue import pictures
from loadgen.results.pictures.drawing import Picture
from loadgen.results.run_data import Run
from loadgen.results.summary_schema import Summary
from loadgen.results.table import Table
from loadgen.results.tables import answers, checks_table, details, instrument_table
from loadgen.results.text import subject_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A report, before it is shown."""

    title: str
    run_id: str
    started: str
    """When the run began, for people; empty where that is not known."""
    caveats: tuple[str, ...]
    """What must be said of the run wherever its figure is read, in sentences."""
    grafana: str | None
    headline: Headline
    verdict: Verdict
    objections: tuple[CheckResult, ...]
    """Checks that were not passed, the gravest first."""
    causes: tuple[tuple[str, str], ...]
    """How requests failed, and how often."""
    pictures: tuple[Picture, ...]
    asked: Table
    """What was run."""
    answers: tuple[Table, ...]
    details: tuple[Table, ...]
    checks: Table
    """Checks that were passed or could not be made."""
    passed: str
    """How many they are."""
    instrument: Table

    @property
    def starts_with_why(self) -> bool:
        """Whether the reader must know the objections before any figure."""
        return self.verdict in {Verdict.INVALID, Verdict.INCONCLUSIVE}

    @property
    def heading(self) -> str:
        """Title, verdict and run id, for a picture that is passed on alone."""
        return f"{escaped(self.title)}\n{self.verdict.value}, run {self.run_id}"

    @property
    def why(self) -> str:
        """The sentence before the objections of the verdict."""
        return _WHY.get(self.verdict, "Requests failed, within the limit.")


_WHY = {
    Verdict.INVALID: "Do not use these figures:",
    Verdict.INCONCLUSIVE: "The run is inconclusive:",
    Verdict.WARN: "Keep in mind when you use these figures:",
}


def document(run: Run) -> Document:
    """Return the report of a run."""
    started = f"{datetime.fromisoformat(run.manifest.started_at).astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    return document_of(run.summary, asked_table(run.manifest, run.summary.tokens), pictures(run), started)


def document_of(summary: Summary, asked: Table, drawings: list[Picture], started: str = "") -> Document:
    """Return the report that a summary makes, with what was run and the pictures of it."""
    checks = summary.verdict.checks
    others = [check for check in checks if check.status not in OBJECTIONS]
    return Document(
        title=subject_of(summary).title,
        run_id=summary.run_id,
        started=started,
        caveats=tuple(_caveats(summary)),
        grafana=summary.grafana,
        headline=headline(summary),
        verdict=summary.verdict.status,
        objections=tuple(objections(checks)),
        causes=tuple(causes_of(summary.requests)),
        pictures=tuple(drawings),
        asked=asked,
        answers=tuple(answers(summary)),
        details=tuple(details(summary)),
        checks=checks_table(others, "Checks that were passed or could not be made"),
        passed=described(checks),
        instrument=instrument_table(summary),
    )


def _caveats(summary: Summary) -> Iterator[str]:
    if summary.simulated:
        yield "The server is simulated: no real engine was measured."
    if summary.launched is not None and summary.launched.weights == "random":
        yield "The model has random weights: its speed is real, its answers are not."


ABBREVIATIONS = ", ".join(f"{metric.label}: {metric.title.lower()}" for metric in LIMITS) + ", p50: the median."
"""For readers who do not measure every day."""
