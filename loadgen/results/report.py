"""From a results folder to its summary and reports; needs no Locust and no server."""

from pathlib import Path

import msgspec

from loadgen.results import files, store
from loadgen.results.document import document
from loadgen.results.html import html
from loadgen.results.markdown import markdown
from loadgen.results.pictures.drawing import png
from loadgen.results.run_data import Run, read_run
from loadgen.results.summary_schema import Summary


def report(folder: Path) -> Summary:
    """Read a results folder and write its summary and reports again; return the summary.

    Raises DataError if the folder is not the results folder of a run, and OSError if a file cannot be written.
    """
    store.merge_late(folder)
    run = read_run(folder)
    write_summary(folder, run.summary)
    write_reports(folder, run)
    return run.summary


def summary_of(folder: Path) -> Summary:
    """Return the summary of a run. Its reports are written now if it has none, or one of an older version.

    Raises DataError and OSError as :func:`report` does.
    """
    try:
        return msgspec.json.decode((folder / "summary.json").read_bytes(), type=Summary)
    except (OSError, msgspec.DecodeError):
        return report(folder)


def write_summary(folder: Path, summary: Summary) -> None:
    """Write ``summary.json``; raises OSError where the disk does not take it."""
    files.write(folder / "summary.json", summary.json())


def write_reports(folder: Path, run: Run) -> None:
    """Write what people read of a run, with its pictures; raises OSError where the disk does not take one of them."""
    contents = document(run)
    for picture in contents.pictures:
        files.write(folder / f"{picture.name}.png", png(picture, contents.heading))
    files.write(folder / "report.md", markdown(contents).encode())
    files.write(folder / "report.html", html(contents).encode())
