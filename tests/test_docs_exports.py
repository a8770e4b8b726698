"""docs/exports.md: its commands are run on kept runs, its code is executed, and both print what stands there."""

import contextlib
import io
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, clean_environment

from loadgen.results.export import FORMATS
from loadgen.results.manifest import from_json

DOCUMENT = (ROOT / "docs" / "exports.md").read_text()
COMMANDS = re.findall(r"^```console\n\$ loadgen (.*?)\n(.*?)^```$", DOCUMENT, re.DOTALL | re.MULTILINE)
CODE = re.findall(r"^```python\n(.*?)^```\n\n```\n(.*?)^```$", DOCUMENT, re.DOTALL | re.MULTILINE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with results/RUN-ID of the runs that the document names."""
    for kind in ("sweep", "rate"):
        kept = ROOT / "tests" / "kept" / kind
        shutil.copytree(kept, tmp_path / "results" / from_json((kept / "run.json").read_bytes()).run_id)
    return tmp_path


def test_commands_and_code_of_the_document_print_what_stands_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    assert DOCUMENT.count("```console") == len(COMMANDS) == 4
    for command, shown in COMMANDS:
        arguments = [sys.executable, "-m", "loadgen.cli", *shlex.split(command)]
        done = subprocess.run(arguments, env=clean_environment(), capture_output=True, text=True, check=False)
        assert (done.stdout, done.stderr, done.returncode) == (shown, "", 0)
        assert all(Path(line).is_file() for line in shown.splitlines())
    assert DOCUMENT.count("```python") == len(CODE) == 1
    for code, shown in CODE:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, {})
        assert printed.getvalue().strip() == shown.strip()


def test_the_document_names_every_format_and_its_file() -> None:
    for name, form in FORMATS.items():
        assert f"| `{name}` | `{form.file_name}`" in DOCUMENT


def test_what_the_document_links_to_is_there() -> None:
    for target in re.findall(r"\]\((?!https:)(.*?)\)", DOCUMENT):
        assert (ROOT / "docs" / target).exists(), target
