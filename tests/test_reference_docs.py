"""The reference pages and schemas are those of the code, and files of real runs are valid by the schemas."""

import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import msgspec
import pytest

from loadgen.results.report import report

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "docs" / "reference"
KEPT = Path(__file__).parent / "kept"


def test_the_reference_is_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "reference", "--check"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("kind", ["speed", "throughput", "sweep", "rate", "distributed", "interrupted"])
def test_a_runs_files_are_valid_by_their_schemas(kind: str, tmp_path: Path) -> None:
    folder = shutil.copytree(KEPT / kind, tmp_path / kind)
    report(folder)
    of_summary, of_record = (
        msgspec.json.decode((REFERENCE / f"{name}.schema.json").read_bytes()) for name in ("summary", "record")
    )
    jsonschema.validate(msgspec.json.decode((folder / "summary.json").read_bytes()), of_summary)
    validator = jsonschema.Draft202012Validator(of_record)
    for line in (folder / "records.jsonl").read_bytes().splitlines():
        validator.validate(msgspec.json.decode(line))
