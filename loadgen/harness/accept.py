"""What a worker accepts of its master's orders.

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
from loadgen.errors import UsageError
from loadgen.harness.key_hosts import KeyHosts
from loadgen.harness.messages import Orders
from loadgen.harness.prepare import settings_of, tokenizer_of, with_template
from loadgen.launch.chat import template_of
from loadgen.launch.registry import launched_at
from loadgen.models.template import template_names, template_text
from loadgen.protocol.client import Settings
from loadgen.results.files import write
from loadgen.results.launched import Launched
from loadgen.results.manifest import from_json
from loadgen.results.store import MANIFEST, check_writable
from loadgen.scenario import Scenario, resolve

_RUN_ID = re.compile(r"(?!\.)[A-Za-z0-9._-]{1,120}")
_LONGEST_STOP_S = 86_400.0

_MASTERS = ("dataset", "results", "metrics", "metrics_names", "grafana")
"""Options that mean something at the master only."""


@dataclass(frozen=True, slots=True)
class Own:
    """What a worker's own command line names; Locust puts the master's options in their place when a run begins."""

    results: Path
    engine: str
    tokenizer: str | None
    key_hosts: KeyHosts


def scenario_of(orders: Orders, own: Own) -> Scenario:
    """Return the scenario of orders; raises UsageError where they cannot be followed."""
    _check(orders)
    tokenizer = _tokenizer(orders, own) if orders.scenario.get("tokenizer") else None
    raw = {name: value for name, value in orders.scenario.items() if name not in _MASTERS}
    try:
        return resolve(raw | {"tokenizer": tokenizer})
    except UsageError as error:
        raise UsageError(f"the master's options are not valid: {error}") from None


def settings(orders: Orders, scenario: Scenario, own: Own) -> Settings:
    """Return how the requests of orders are made.

    Raises UsageError where that needs code that this worker was not given, or its key for a host it is not for.
    """
    made = settings_of(scenario, orders.host, _engine(orders, own), own.key_hosts if orders.with_key else None)
    if orders.template is not None:
        _check_template(orders)
    return with_template(made, orders.template)


def folder_of(orders: Orders, own: Own) -> Path:
    """Return where records go: to the run's folder if the master's disk is ours too, else to one below ``--results``.

    Raises UsageError where none can be made.
    """
    masters = Path(orders.folder)
    if _is_runs_folder(masters, orders):
        return masters
    check_writable(own.results)
    folder = own.results.absolute() / orders.run_id
    manifest = folder / MANIFEST
    try:
        if folder.is_symlink() or (manifest.exists() and manifest.read_bytes() != orders.manifest):
            raise UsageError(f"--results {own.results}: {orders.run_id} there is another run's; name another folder.")
        folder.mkdir(parents=True, exist_ok=True)
        write(manifest, orders.manifest)
    except OSError as error:
        raise UsageError(f"--results {own.results}: cannot write there ({error.strerror}); name another.") from None
    return folder


def _check(orders: Orders) -> None:
    """Raise UsageError for orders that no master of ours gives."""
    if not _RUN_ID.fullmatch(orders.run_id):
        raise UsageError("the master's run id is not valid: letters, digits, '.', '_' and '-', at most 120.")
    try:
        manifest = from_json(orders.manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise UsageError("the master's manifest of the run cannot be read.") from None
    if manifest.run_id != orders.run_id:
        raise UsageError("the master's manifest is that of another run.")
    is_possible = (
        orders.number >= 1
        and 0 <= orders.shard < orders.shards
        and orders.sample
        and (orders.planned is None or orders.planned >= 0)
        and math.isfinite(orders.stop_timeout_s)
        and 0 <= orders.stop_timeout_s <= _LONGEST_STOP_S
    )
    if not is_possible:
        raise UsageError("the master's orders are not valid: their numbers are no part of a run.")


def _check_template(orders: Orders) -> None:
    """Raise UsageError for a chat template that this worker does not have itself: templates are programs."""
    launched = _launched(orders)
    own = [template_text(name) for name in template_names()]
    own += [text for text in [template_of(launched) if launched else None] if text is not None]
    if orders.template not in own:
        raise UsageError(
            "the run applies a chat template that this worker does not have; start the worker on the engine's host, or "
            "let the master make the requests, without workers."
        )


def _is_runs_folder(folder: Path, orders: Orders) -> bool:
    """Whether a folder was made by the master for this run: it has the run's name and its manifest, byte for byte."""
    manifest = folder / MANIFEST
    try:
        return (
            folder.is_absolute()
            and folder.name == orders.run_id
            and not folder.is_symlink()
            and not manifest.is_symlink()
            and manifest.read_bytes() == orders.manifest
        )
    except (OSError, ValueError):  # of a NUL in the path
        return False


def _tokenizer(orders: Orders, own: Own) -> str:
    """Return this worker's tokenizer; raises UsageError where the run needs one and it has none."""
    if own.tokenizer is not None:
        return own.tokenizer
    launched = _launched(orders)
    if launched is not None and (file := str(tokenizer_of(launched))) == orders.scenario["tokenizer"]:
        return file
    raise UsageError("the run counts tokens with --tokenizer: give this worker its own --tokenizer FILE.")


def _engine(orders: Orders, own: Own) -> str:
    """Return a name of the catalogue, or the file of code that this worker was itself given; raises UsageError."""
    if orders.engine in ENGINES:
        return orders.engine
    if own.engine not in ENGINES and Path(own.engine).name == Path(orders.engine).name:
        return own.engine
    launched = _launched(orders)
    if launched is not None and launched.engine == orders.engine:
        return orders.engine
    raise UsageError("the run uses an engine file: give this worker --engine with its own copy of it.")


def _launched(orders: Orders) -> Launched | None:
    """Return the engine that was started on this machine at the orders' host, if one was."""
    return launched_at(orders.host)
