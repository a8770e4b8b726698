"""The notebook in examples/ is executed, for runs of several kinds, and draws its figures."""

from base64 import b64decode
from io import BytesIO
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from conftest import ROOT
from matplotlib.colors import to_rgb
from matplotlib.image import imread
from nbclient import NotebookClient

NOTEBOOK = ROOT / "examples" / "read_a_run.ipynb"


def read() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


@pytest.mark.parametrize("kind", ["speed", "sweep", "interrupted"])
def test_the_notebook_reads_a_run_and_draws_two_figures(
    kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RUN_FOLDER", str(ROOT / "tests" / "kept" / kind))
    done = NotebookClient(read(), resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in done.cells for output in cell.get("outputs", ())]
    assert [output for output in outputs if output.get("name") == "stderr"] == []
    pictures = [b64decode(output.data["image/png"]) for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 2
    for picture in pictures:
        pixels = imread(BytesIO(picture))[..., :3]
        assert np.isclose(pixels, to_rgb("C0"), atol=0.02).all(axis=-1).sum() > 50  # in the colour of the data


def test_the_notebook_is_kept_without_output() -> None:
    code = [cell for cell in read().cells if cell.cell_type == "code"]
    assert [(cell.outputs, cell.execution_count) for cell in code] == [([], None)] * len(code)
