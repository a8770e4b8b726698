"""The data sets by name: ``lima``, ``samples``, or the path of a JSON file."""

from pathlib import Path
from typing import Any

from loadgen.errors import DataError
from loadgen.workload.prompts import Dataset, prompts_of, read_file

LIMA_REPOSITORY = "GAIR/lima"
LIMA_TRAIN = f"hf://datasets/{LIMA_REPOSITORY}/train.jsonl"
"""The repository holds a loading script, which ``datasets`` no longer runs: the file is named instead."""

SAMPLES = Path(__file__).with_name("samples.jsonl")


def load(dataset: str) -> Dataset:
    """Load a data set by name or path; raises DataError, which names ``--dataset`` and the way out."""
    match dataset:
        case "samples":
            return read_file(SAMPLES, "the project's own samples")
        case "lima":
            rows = _lima_rows()
            with DataError.naming("--dataset:"):
                return Dataset("LIMA (GAIR/lima, train)", prompts_of(rows, "LIMA"))
        case _:
            path = Path(dataset)
            if not path.exists() and "/" not in dataset and not path.suffix:
                raise DataError(f"--dataset: unknown data set {dataset!r}; use 'lima', 'samples' or a JSON file.")
            return _from_file(path)


def _from_file(path: Path) -> Dataset:
    try:
        with DataError.naming("--dataset:"):
            return read_file(path, path.name)
    except FileNotFoundError:
        raise DataError(
            f"--dataset: {path} does not exist. Name a JSON file, or one of the data sets 'lima' and 'samples'."
        ) from None
    except OSError as error:
        raise DataError(f"--dataset: cannot read {path}: {error.strerror}.") from None


def _lima_rows() -> list[dict[str, Any]]:
    from huggingface_hub import get_token

    if get_token() is None:
        raise DataError(
            f"--dataset lima: LIMA is gated. Accept its terms at https://huggingface.co/datasets/{LIMA_REPOSITORY} "
            "and set HF_TOKEN to your access token; or use --dataset samples, or a local copy: --dataset FILE.jsonl."
        )
    import datasets

    datasets.disable_progress_bars()
    try:
        rows = datasets.load_dataset("json", data_files=LIMA_TRAIN, split="train")
    except Exception as error:  # a foreign library with a wide tree of exceptions: all mean "not loaded"
        raise DataError(
            f"--dataset lima: could not be loaded ({_first_line(error)}). Check HF_TOKEN and that the terms at "
            f"https://huggingface.co/datasets/{LIMA_REPOSITORY} are accepted; or use a local copy: "
            "--dataset FILE.jsonl."
        ) from error
    return list(rows)


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
