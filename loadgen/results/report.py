"""From a results folder to its summary and reports; needs no Locust and no server."""

from pathlib import Path

import msgspec

from loadgen.results import files, store
from loadgen.results.html import html
from loadgen.results.markdown import markdown
from loadgen.results.pictures import pictures, png
from loadgen.results.summary import summarise
from loadgen.results.summary_schema import Summary


def report(folder: Path) -> Summary:
    """Read a results folder and write its summary and reports again; return the summary.

    Raises DataError if the folder is not the results folder of a run, and OSError if a file cannot be written.
    """
    store.merge_late(folder)
    summary = summarise(*store.read_folder(folder))
    write_reports(folder, summary)
    return summary


def summary_of(folder: Path) -> Summary:
    """Return the summary of a run. Its reports are written now if it has none, or one of an older version.

    Raises DataError and OSError as :func:`report` does.
    """
    try:
        return msgspec.json.decode((folder / "summary.json").read_bytes(), type=Summary)
    except (OSError, msgspec.DecodeError):
        return report(folder)


def write_reports(folder: Path, summary: Summary) -> None:
    """Write a summary and the reports made from it; raises OSError where the disk does not take one of them."""
    files.write(folder / "summary.json", summary.json())
    for picture in pictures(summary):
        files.write(folder / f"{picture.name}.png", png(picture))
    files.write(folder / "report.md", markdown(summary).encode())
    files.write(folder / "report.html", html(summary).encode())
