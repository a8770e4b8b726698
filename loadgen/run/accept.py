"""What a worker accepts of its master's assignment.

A master is whoever listens at ``--master-host``; nothing proves who that is. So it can have requests made, and files
written into a folder of the run; it cannot name code, or files to read, or a server for the worker's key. Those are
what the worker's own command line names.
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path

import msgspec

from loadgen.engines.catalogue import ENGINES
from loadgen.errors import UsageError, WorkerError
from loadgen.launch.chat import template_of
from loadgen.launch.registry import launched_at
from loadgen.models.template import template_names, template_text
from loadgen.protocol.client import Settings
from loadgen.results.files import write
from loadgen.results.launched import Launched
from loadgen.results.manifest import from_json
from loadgen.results.store import MANIFEST, check_writable
from loadgen.run.key_hosts import KeyHosts
from loadgen.run.messages import RunAssignment
from loadgen.run.prepare import settings_of, tokenizer_of, with_template
from loadgen.scenario import Scenario, resolve

_RUN_ID = re.compile(r"(?!\.)[A-Za-z0-9._-]{1,120}")
_LONGEST_STOP_S = 86_400.0

_MASTERS = ("dataset", "results", "metrics", "metrics_names", "grafana")
"""Options that mean something at the master only."""


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """What a worker's own command line names; Locust puts the master's options in their place when a run begins."""

    results: Path
    engine: str
    tokenizer: str | None
    key_hosts: KeyHosts


def scenario_of(assignment: RunAssignment, options: WorkerOptions) -> Scenario:
    """Return the scenario of an assignment; raises WorkerError if it is not valid."""
    _check(assignment)
    tokenizer = _tokenizer(assignment, options) if assignment.scenario.get("tokenizer") else None
    raw = {name: value for name, value in assignment.scenario.items() if name not in _MASTERS}
    try:
        return resolve(raw | {"tokenizer": tokenizer})
    except UsageError as error:
        raise WorkerError(f"the master's options are not valid: {error}") from None


def settings(assignment: RunAssignment, scenario: Scenario, options: WorkerOptions) -> Settings:
    """Return how the requests of an assignment are sent.

    Raises WorkerError where that needs code that this worker was not given, or its key for a host it is not for.
    """
    key_hosts = options.key_hosts if assignment.with_secrets else None
    engine = _engine(assignment, options)
    made = settings_of(scenario, assignment.host, engine, key_hosts, with_key=assignment.with_key)
    if assignment.template is not None:
        _check_template(assignment)
    return with_template(made, assignment.template)


def folder_of(assignment: RunAssignment, options: WorkerOptions) -> Path:
    """Return where records go: to the run's folder if the master's disk is ours too, else to one below ``--results``.

    Raises WorkerError where none can be made.
    """
    masters = Path(assignment.folder)
    if _is_runs_folder(masters, assignment):
        return masters
    check_writable(options.results)
    folder = options.results.absolute() / assignment.run_id
    manifest = folder / MANIFEST
    try:
        if folder.is_symlink() or (manifest.exists() and manifest.read_bytes() != assignment.manifest):
            raise WorkerError(
                f"--results {options.results}: {assignment.run_id} there is another run's; name another folder."
            )
        folder.mkdir(parents=True, exist_ok=True)
        write(manifest, assignment.manifest)
    except OSError as error:
        raise WorkerError(
            f"--results {options.results}: cannot write there ({error.strerror}); name another."
        ) from None
    return folder


def _check(assignment: RunAssignment) -> None:
    """Raise WorkerError for an assignment that no master of ours sends."""
    if not _RUN_ID.fullmatch(assignment.run_id):
        raise WorkerError("the master's run id is not valid: letters, digits, '.', '_' and '-', at most 120.")
    try:
        manifest = from_json(assignment.manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise WorkerError("the master's manifest of the run cannot be read.") from None
    if manifest.run_id != assignment.run_id:
        raise WorkerError("the master's manifest is that of another run.")
    is_possible = (
        assignment.number >= 1
        and 0 <= assignment.shard < assignment.shards
        and assignment.sample
        and (assignment.planned is None or assignment.planned >= 0)
        and math.isfinite(assignment.stop_timeout_s)
        and 0 <= assignment.stop_timeout_s <= _LONGEST_STOP_S
    )
    if not is_possible:
        raise WorkerError("the master's assignment is not valid: its numbers are not those of a share of a run.")


def _check_template(assignment: RunAssignment) -> None:
    """Raise WorkerError for a chat template that this worker does not have itself: templates are programs."""
    launched = _launched(assignment)
    templates = [template_text(name) for name in template_names()]
    templates += [text for text in [template_of(launched) if launched else None] if text is not None]
    if assignment.template not in templates:
        raise WorkerError(
            "the run applies a chat template that this worker does not have; start the worker on the engine's host, or "
            "let the master make the requests, without workers."
        )


def _is_runs_folder(folder: Path, assignment: RunAssignment) -> bool:
    """Whether a folder was made by the master for this run: it has the run's name and its manifest, byte for byte."""
    manifest = folder / MANIFEST
    try:
        return (
            folder.is_absolute()
            and folder.name == assignment.run_id
            and not folder.is_symlink()
            and not manifest.is_symlink()
            and manifest.read_bytes() == assignment.manifest
        )
    except (OSError, ValueError):  # of a NUL in the path
        return False


def _tokenizer(assignment: RunAssignment, options: WorkerOptions) -> str:
    """Return this worker's tokenizer; raises WorkerError where the run needs one and it has none."""
    if options.tokenizer is not None:
        return options.tokenizer
    launched = _launched(assignment)
    if launched is not None and (file := str(tokenizer_of(launched))) == assignment.scenario["tokenizer"]:
        return file
    raise WorkerError("the run counts tokens with --tokenizer: give this worker its own --tokenizer FILE.")


def _engine(assignment: RunAssignment, options: WorkerOptions) -> str:
    """Return a name of the catalogue, or the file of code that this worker was itself given; raises WorkerError."""
    if assignment.engine in ENGINES:
        return assignment.engine
    if options.engine not in ENGINES and Path(options.engine).name == Path(assignment.engine).name:
        return options.engine
    launched = _launched(assignment)
    if launched is not None and launched.engine == assignment.engine:
        return assignment.engine
    raise WorkerError("the run uses an engine file: give this worker --engine with its own copy of it.")


def _launched(assignment: RunAssignment) -> Launched | None:
    """Return the engine that was started on this machine at the assignment's host, if one was."""
    return launched_at(assignment.host)
