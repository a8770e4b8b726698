"""The end of a run: from its files to its summary, reports and exit status."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from loadgen.errors import DISK_ERRORS
from loadgen.exit_status import ExitStatus
from loadgen.results.manifest import Ended, Manifest
from loadgen.results.report import write_reports
from loadgen.results.store import RunFolder, merge, read_folder
from loadgen.results.summary import summarise
from loadgen.results.summary_schema import Summary
from loadgen.run.state import EndReason


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run left."""

    summary: Summary
    folder: Path
    exit_status: ExitStatus
    remark: str | None
    """What the user has to know besides the verdict."""


def conclude(
    folder: RunFolder, manifest: Manifest, reason: EndReason, why: str | None, *, sigint: bool = False
) -> RunResult:
    """Complete the manifest, merge the records, write the reports and return the result.

    ``why``: what ended the load early; ``sigint``: whether SIGINT did. If the disk takes none of it, the result is
    returned all the same, with a remark.
    """
    started = sum(facts.started_requests or 0 for facts in manifest.workers)
    manifest.ended = Ended(reason=reason, at=wall_time(), started_requests=started, why=why, sigint=sigint)
    disk_errors: list[OSError] = []
    _to_disk(lambda: folder.write_manifest(manifest), disk_errors)
    _to_disk(lambda: merge(folder.path), disk_errors)
    summary = summarise(manifest, read_folder(folder.path)[1])
    _to_disk(lambda: write_reports(folder.path, summary), disk_errors)
    status, remark = summary.verdict.status.exit_status, None
    if disk_errors:
        status = status or ExitStatus.INCONCLUSIVE  # a report that is not on disk is no verdict
        remark = (
            f"{cannot_write(disk_errors[0])}: the records are in {folder.path}. {_way_out(disk_errors[0])}, and "
            f"`loadgen report` makes the report; exit status {status:d}."
        )
    return RunResult(summary, folder.path, status, remark)


def bug_remark(what: str, folder: Path | None) -> str:
    """Return the message that an error in loadgen ended a run; ``folder`` has its records, None if there are none."""
    records = "" if folder is None else f" What was recorded is in {folder};"
    return f"an error in loadgen ended the run ({what}); the log has more.{records} exit status {ExitStatus.BUG:d}."


def cannot_write(error: OSError) -> str:
    """Return the message that a file cannot be written."""
    return f"{error.filename or 'a file'} cannot be written ({error.strerror})"


def _way_out(error: OSError) -> str:
    return "Free some space" if error.errno in DISK_ERRORS else "Correct that"


def wall_time() -> str:
    """Return the time, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _to_disk(write: Callable[[], None], errors: list[OSError]) -> None:
    """Write something, as far as the disk takes it."""
    try:
        write()
    except OSError as error:
        errors.append(error)
