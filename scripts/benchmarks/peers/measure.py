"""Measurements of a peer, each from runs against a truth server of its own: the client on one core, it on another."""

import tempfile
import urllib.request
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from benchmarks.machine import CLIENT_CORE, pin_server
from benchmarks.peers.arithmetic import Errors, errors_of, held_of
from benchmarks.peers.environment import python_of, variables
from benchmarks.peers.peer import Load, Peer, Reported
from benchmarks.usage import Usage, run
from loadgen.launch.simulated import start_simulated
from loadgen.measure.truth import Truth

TIMEOUT_S = 600.0
SHORT = Load(streams=64, tokens=1)
"""Short requests: the answer is one chunk, at once."""
TOKEN_LOAD = Load(tokens=128)


class PeerError(Exception):
    """A peer's run failed; the message names it and ends with what it printed."""


class ServerError(Exception):
    """The truth server was gone before the peer was done: the run says nothing of the peer."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One run of a peer: what it was to do, what it took, what it reports, what the server knows."""

    load: Load
    usage: Usage
    reported: Reported
    truths: tuple[Truth, ...]

    @property
    def tokens(self) -> int:
        """Output tokens sent to it."""
        return sum(truth.output_tokens for truth in self.truths)

    @property
    def held(self) -> int:
        """Largest number of streams in flight at once, by the server's log."""
        return held_of(self.truths)

    @property
    def errors(self) -> Errors:
        """Reported against true times."""
        return errors_of(self.reported, self.truths)


@dataclass(frozen=True, slots=True)
class Slope:
    """What more of something costs: two runs, and the line through them."""

    value: float
    """In the unit that the function that returned it names."""
    short: Observation
    long: Observation


def observe(peer: Peer, load: Load, *, ttft_ms: float = 50.0, itl_ms: float = 10.0) -> Observation:
    """Run it once; raises InstallError, PeerError, ServerError."""
    python = python_of(peer)
    with tempfile.TemporaryDirectory(prefix=f"bench-{peer.name}-") as name:
        folder = Path(name)
        artifacts, scratch = folder / "artifacts", folder / "scratch"
        artifacts.mkdir()
        scratch.mkdir()
        server = start_simulated(folder / "truth.jsonl", ttft_ms=ttft_ms, itl_ms=itl_ms)
        try:
            pin_server(server.child.pid)
            command = peer.command(python, replace(load, host=server.host), artifacts)
            env = variables(peer, scratch)
            usage = run(command, core=CLIENT_CORE, env=env, cwd=artifacts, timeout=TIMEOUT_S)
            _check(server.host)
        finally:
            server.child.stop()
        return Observation(load, usage, _read(peer, artifacts, usage), _truths(server.log))


def errors(peer: Peer, load: Load) -> Errors:
    """Return how far its reported times are off."""
    return observe(peer, load).errors


def held(peer: Peer, load: Load) -> int:
    """Return the largest number of streams in flight at once, by the server's log."""
    return observe(peer, load).held


def cost(peer: Peer, load: Load, short: int, long: int) -> Slope:
    """Return CPU-seconds per million tokens: the slope between runs of ``short`` and of ``long`` requests."""
    a, b = (observe(peer, replace(load, requests=requests)) for requests in (short, long))
    return Slope(1e6 * (b.usage.cpu_s - a.usage.cpu_s) / (b.tokens - a.tokens), a, b)


def memory(peer: Peer, few: int, many: int, load: Load = TOKEN_LOAD) -> Slope:
    """Return MB per stream: the slope of peak resident memory between ``few`` and ``many`` streams.

    Both runs make the same number of requests, two for each of the many: what a peer keeps per request is not in it.
    """
    a, b = (observe(peer, replace(load, streams=streams, requests=2 * many)) for streams in (few, many))
    return Slope((b.usage.peak_bytes - a.usage.peak_bytes) / 1e6 / (many - few), a, b)


def requests_per_cpu_second(peer: Peer, load: Load = SHORT, short: int = 1000, long: int = 3000) -> Slope:
    """Return how many requests of one token a CPU-second is enough for, from runs of ``short`` and ``long`` of them."""
    a, b = (observe(peer, replace(load, requests=requests), ttft_ms=0.0) for requests in (short, long))
    return Slope((len(b.truths) - len(a.truths)) / (b.usage.cpu_s - a.usage.cpu_s), a, b)


def _check(host: str) -> None:
    try:
        with urllib.request.urlopen(f"{host}/health", timeout=10):  # noqa: S310 our own, on loopback
            return
    except OSError as error:
        raise ServerError(f"the truth server did not live to the end of the run: {error}") from error


def _read(peer: Peer, artifacts: Path, usage: Usage) -> Reported:
    if usage.status != 0:
        how = f"was ended after {TIMEOUT_S:g} s" if usage.timed_out else f"ended with status {usage.status}"
        raise PeerError(f"{peer.name} {peer.version} {how}: {usage.tail}")
    try:
        return peer.read(artifacts)
    except (OSError, ValueError, LookupError) as error:
        raise PeerError(
            f"{peer.name} {peer.version} left no report that can be read ({error!r}): {usage.tail}"
        ) from error


def _truths(log: Path) -> tuple[Truth, ...]:
    """Return all rows: keyed by request id, those of a peer that sends none would be one."""
    return tuple(msgspec.json.decode(line, type=Truth) for line in log.read_bytes().splitlines())
