"""From a results folder to its summary and reports; needs no Locust and no server."""

from pathlib import Path

import msgspec

from loadgen.results import files, store
from loadgen.results.html import html
from loadgen.results.markdown import markdown
from loadgen.results.pictures import pictures, png
from loadgen.results.summary import Summary, summarise


def report(folder: Path) -> Summary:
    """Read a results folder and write its summary and reports again; return the summary.

    Raises DataError if the folder is not the results folder of a run, and OSError if a file cannot be written.
    """
    store.merge_late(folder)
    summary = summarise(*store.read_folder(folder))
    write_reports(folder, summary)
    return summary


def summary_of(folder: Path) -> Summary:
    """Return the summary of a run. If the run was killed before it wrote one, write its reports now.

    Raises DataError and OSError as :func:`report` does.
    """
    try:
        summary: Summary = msgspec.json.decode((folder / "summary.json").read_bytes())
    except (OSError, msgspec.DecodeError):
        return report(folder)
    return summary


def write_reports(folder: Path, summary: Summary) -> None:
    """Write a summary and the reports made from it; raises OSError where the disk does not take one of them."""
    files.write(folder / "summary.json", msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n")
    for picture in pictures(summary):
        files.write(folder / f"{picture.name}.png", png(picture))
    files.write(folder / "report.md", markdown(summary).encode())
    files.write(folder / "report.html", html(summary).encode())
