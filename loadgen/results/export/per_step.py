"""For formats that describe one load in one file: of a sweep they have files for each step, in a folder."""

from collections.abc import Iterable
from pathlib import Path

from loadgen.measure.facts import StepFacts
from loadgen.measure.records import Records
from loadgen.record import Phase, RequestRecord


def place_of(step: StepFacts, path: Path) -> Path:
    """Return where the files of a step lie, without a suffix: in the folder ``path``, whose own suffix is dropped.

    The name follows those of ``vllm bench sweep``. The number makes it unique: two steps may have the same users.
    """
    return path.with_suffix("") / f"step={step.number}-max_concurrency={step.concurrency}"


def measured_in(step: StepFacts | None, records: Iterable[RequestRecord]) -> list[RequestRecord]:
    """Return the measured requests of a step; those of the whole run if ``step`` is None."""
    records = Records.of(records)
    measured = records.where(records.equal("phase", Phase.MEASURE))
    return list(measured if step is None else measured.where(measured.ints("step") == step.number))
