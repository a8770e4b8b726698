"""The data sets by name: ``lima``, ``samples``, or the path of a JSONL file."""

from pathlib import Path
from typing import Any

from loadgen.errors import UsageError
from loadgen.workload.prompts import Dataset, prompts_of, read_jsonl

LIMA_REPOSITORY = "GAIR/lima"
LIMA_TRAIN = f"hf://datasets/{LIMA_REPOSITORY}/train.jsonl"
"""The repository holds a loading script, which ``datasets`` no longer runs: the file is named instead."""

SAMPLES = Path(__file__).with_name("samples.jsonl")


def load(dataset: str) -> Dataset:
    """Load a data set by name or path; raises UsageError naming ``--dataset`` and the way out."""
    match dataset:
        case "samples":
            return read_jsonl(SAMPLES, "the project's own samples")
        case "lima":
            return Dataset("LIMA (GAIR/lima, train)", prompts_of(_lima_rows(), "LIMA"))
        case _:
            path = Path(dataset)
            if not path.exists() and "/" not in dataset and not path.suffix:
                raise UsageError(f"--dataset: unknown data set {dataset!r}; use 'lima', 'samples' or a JSONL file.")
            return read_jsonl(path, path.name)


def _lima_rows() -> list[dict[str, Any]]:
    from huggingface_hub import get_token

    if get_token() is None:
        raise UsageError(
            f"--dataset lima: LIMA is gated. Accept its terms at https://huggingface.co/datasets/{LIMA_REPOSITORY} "
            "and set HF_TOKEN to your access token; or use --dataset samples, or a local copy: --dataset FILE.jsonl."
        )
    import datasets

    datasets.disable_progress_bars()
    try:
        rows = datasets.load_dataset("json", data_files=LIMA_TRAIN, split="train")
    except Exception as error:  # a foreign library with a wide tree of exceptions: all mean "not loaded"
        raise UsageError(
            f"--dataset lima: could not be loaded ({_first_line(error)}). Check HF_TOKEN and that the terms at "
            f"https://huggingface.co/datasets/{LIMA_REPOSITORY} are accepted; or use a local copy: "
            "--dataset FILE.jsonl."
        ) from error
    return list(rows)


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
