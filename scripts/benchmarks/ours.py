"""Our own client against the truth server, each on a core of its own: one run, and all that is known of it."""

import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import psutil

from benchmarks.machine import CLIENT_CORE, ROOT, environment, pin_server
from benchmarks.peers.peer import MODEL, Answer, Load, Peer, Reported
from benchmarks.usage import Usage, run
from loadgen import metrics
from loadgen.engines.simulated.script import Script
from loadgen.launch.simulated import start_simulated
from loadgen.measure.truth import Truth
from loadgen.record import Outcome, Phase, RequestRecord
from loadgen.results import store
from loadgen.version import VERSION

CHAT = ROOT / "locustfiles" / "chat.py"
OWN_USER = Path(__file__).parent / "locustfiles" / "own_user.py"
"""A locustfile whose users hold a conversation."""
TIMEOUT_S = 240.0
SPREAD_S = 2.0
"""What chat.py spreads the starts over if it is not told otherwise."""
_AT_ONCE = 100_000.0
"""Users a second that are all users at one instant."""
_INVALID, _INCONCLUSIVE = 3, 4
"""Exit statuses of a run that ended as it should, and whose numbers are not to be used."""


class RunError(Exception):
    """A run of our client ended with an error; the message ends with what it printed."""


@dataclass(frozen=True, slots=True)
class Setup:
    """How our client runs, beside its load."""

    itl_sample: str = "auto"
    warmup: int = 100
    script: Script = field(default_factory=Script)
    locustfile: Path = CHAT
    certificate: Mapping[str, str] = field(default_factory=dict)
    """Files ``tls_cert`` and ``tls_key`` of the server, and ``authority`` for the client; none: plain HTTP."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """For the client, beside ours."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run that has ended."""

    load: Load
    setup: Setup
    records: Sequence[RequestRecord]
    truths: Mapping[str, Truth]
    summary: Mapping[str, Any]
    usage: Usage
    server_cpu_s: float

    @property
    def ok(self) -> list[RequestRecord]:
        """Complete answers of the measured phase."""
        return [r for r in self.records if r.phase is Phase.MEASURE and r.outcome is Outcome.OK]

    @property
    def pairs(self) -> list[tuple[RequestRecord, Truth]]:
        """The same, each with what the server says of it."""
        return [(r, self.truths[r.request_id]) for r in self.ok]

    @property
    def findings(self) -> list[str]:
        """The verdict's lines that are not ok."""
        checks = self.summary["verdict"]["checks"]
        return [f"{c['name']}: {c['status']}, {c['value']}" for c in checks if c["status"] not in {"ok", "not checked"}]


def observe(load: Load, setup: Setup) -> Run:
    """Run it once; raises RunError."""
    with tempfile.TemporaryDirectory(prefix="bench-ours-") as name:
        folder = Path(name)
        server = start_simulated(folder / "truth.jsonl", **_server_options(setup))
        try:
            pin_server(server.child.pid)
            process = psutil.Process(server.child.pid)
            before = _cpu_s(process)
            command = command_of(setup, sys.executable, replace(load, host=server.host), folder)
            usage = run(command, core=CLIENT_CORE, env=_environment(setup), cwd=folder, timeout=TIMEOUT_S)
            server_cpu_s = _cpu_s(process) - before
        except psutil.NoSuchProcess:
            raise RunError("the truth server was gone before the client was done") from None
        finally:
            server.child.stop()
        if usage.timed_out or usage.status not in {0, _INVALID, _INCONCLUSIVE}:
            raise RunError(f"our client ended with status {usage.status}: {usage.tail}")
        results = _results(folder)
        _, records = store.read_folder(results)
        summary = msgspec.json.decode((results / "summary.json").read_bytes())
        return Run(load, setup, records, server.truths(), summary, usage, server_cpu_s)


def peer_of(name: str, itl_sample: str, warmup: int = 5, locustfile: Path = CHAT) -> Peer:
    """Return our client as a peer among peers: run and measured in the same way."""
    command = partial(command_of, Setup(itl_sample=itl_sample, warmup=warmup, locustfile=locustfile))
    return Peer(name=name, version=VERSION, requirements=(), command=command, read=_reported)


def command_of(setup: Setup, python: str, load: Load, folder: Path) -> list[str]:
    """Return the command line of a run."""
    command = [python, "-m", "locust", "-f", str(setup.locustfile), "--headless", "--loglevel", "ERROR"]
    command += ["--host", load.host, "--model", MODEL, "--results", str(folder), "--itl-sample", setup.itl_sample]
    command += ["--users", str(load.streams), "--requests", str(load.requests), "--max-tokens", str(load.tokens)]
    if load.spread_s != SPREAD_S:
        command += ["--spawn-rate", str(load.streams / load.spread_s if load.spread_s else _AT_ONCE)]
    return [*command, "--warmup", str(setup.warmup), "--sample", "50"]


def _reported(folder: Path) -> Reported:
    _, records = store.read_folder(_results(folder))
    measured = ((r, metrics.ttft_ms(r)) for r in records if r.phase is Phase.MEASURE)
    return Reported(tuple(Answer(t, tuple(metrics.icl_ms(r)), r.request_id) for r, t in measured if t is not None))


def _results(folder: Path) -> Path:
    """Return the one folder of results; raises FileNotFoundError."""
    found = [path.parent for path in folder.glob("*/summary.json")]
    if len(found) != 1:
        raise FileNotFoundError(f"{len(found)} runs with a summary in {folder}")
    return found[0]


def _server_options(setup: Setup) -> dict[str, str | float | bool]:
    usual, own = asdict(Script()), asdict(setup.script)
    given = {name: value for name, value in own.items() if value != usual[name]}
    return given | {name: path for name, path in setup.certificate.items() if name != "authority"}


def _environment(setup: Setup) -> dict[str, str]:
    """Return ours without what would change the run."""
    authority = {"SSL_CERT_FILE": setup.certificate["authority"]} if setup.certificate else {}
    return environment() | authority | dict(setup.environment)


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
