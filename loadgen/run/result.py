"""The end of a run: from its files to its summary, reports and exit status."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from loadgen.errors import DISK_ERRORS
from loadgen.exit_status import ExitStatus
from loadgen.results.manifest import Ended, Manifest
from loadgen.results.report import write_reports, write_summary
from loadgen.results.run_data import Run
from loadgen.results.store import RunFolder, merge, read_folder
from loadgen.results.summary_schema import Summary
from loadgen.run.state import EndReason


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run left."""

    run: Run
    folder: Path
    exit_status: ExitStatus
    remark: str | None
    """What the user has to know besides the verdict."""

    @property
    def summary(self) -> Summary:
        """The figures of the run, with its verdict."""
        return self.run.summary


def conclude(
    folder: RunFolder, manifest: Manifest, reason: EndReason, why: str | None, *, sigint: bool = False
) -> RunResult:
    """Complete the manifest, merge the records, write the summary and return the result.

    ``why``: what ended the load early; ``sigint``: whether SIGINT did. If the disk takes none of it, the result is
    returned all the same, with a remark.
    """
    started = sum(facts.started_requests or 0 for facts in manifest.workers)
    manifest.ended = Ended(reason=reason, at=wall_time(), started_requests=started, why=why, sigint=sigint)
    disk_errors: list[OSError] = []
    _to_disk(lambda: folder.write_manifest(manifest), disk_errors)
    _to_disk(lambda: merge(folder.path), disk_errors)
    run = Run(manifest, read_folder(folder.path)[1])
    _to_disk(lambda: write_summary(folder.path, run.summary), disk_errors)
    return _with_errors(RunResult(run, folder.path, run.summary.verdict.status.exit_status, None), disk_errors)


def save_reports(result: RunResult) -> RunResult:
    """Write the reports and pictures of a result, which takes a second or two; return it, with a remark if that fails.

    They come last, so that nobody waits for them to see the verdict.
    """
    disk_errors: list[OSError] = []
    _to_disk(lambda: write_reports(result.folder, result.run), disk_errors)
    return result if result.remark else _with_errors(result, disk_errors)


def _with_errors(result: RunResult, disk_errors: list[OSError]) -> RunResult:
    """Return a result with what the disk did not take: a report that is not on disk is no verdict."""
    if not disk_errors:
        return result
    status = result.exit_status or ExitStatus.INCONCLUSIVE
    remark = (
        f"{cannot_write(disk_errors[0])}: the records are in {result.folder}. {_way_out(disk_errors[0])}, and "
        f"`loadgen report` makes the report; exit status {status:d}."
    )
    return replace(result, exit_status=status, remark=remark)


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
