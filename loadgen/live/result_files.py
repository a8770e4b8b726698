"""The files of an ended run that its page leads to."""

from collections.abc import Mapping
from pathlib import Path

_NAMES = ("report.html", "report.md", "summary.json", "run.json", "records.jsonl")

MEDIA_TYPES: Mapping[str, str] = {
    ".html": "text/html",
    ".md": "text/plain",
    ".json": "application/json",
    ".jsonl": "application/x-ndjson",
    ".png": "image/png",
}
"""By the suffix of a file."""

POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox allow-popups allow-popups-to-escape-sandbox"
)
"""Their Content-Security-Policy: a report has its style and its pictures in itself, and no scripts."""


def result_files(folder: Path) -> dict[str, Path]:
    """Return the files of a run's folder that are served, by name: reports first, pictures last."""
    named = [folder / name for name in _NAMES]
    return {path.name: path for path in [*named, *sorted(folder.glob("*.png"))] if path.is_file()}
