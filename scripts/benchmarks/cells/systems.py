"""The servers that statistics are tried on, each as fast as a cell wants it."""

from dataclasses import dataclass, replace

from benchmarks.simulators import truths
from benchmarks.simulators.servers import Batching, Model, Pool
from benchmarks.simulators.speeds import Wandering
from loadgen.engines.simulated.batching import Profile

CAPPED = Profile(a=10.0, b=0.1, prefill_ms=5.0, batch=16)
UNCAPPED = replace(CAPPED, batch=10**6)
TOKENS = 64


@dataclass(frozen=True, slots=True)
class System:
    """A server, and how many requests it serves at once, in which they take ``round_trip_s``."""

    model: Pool | Batching
    at_once: int

    @property
    def round_trip_s(self) -> float:
        """Of one of as many users as are served at once."""
        return self.at_once / truths.throughput(self.model, self.at_once)

    def slowed(self, round_trip_s: float) -> "System":
        """Return the same with another round trip."""
        return replace(self, model=slowed(self.model, round_trip_s / self.round_trip_s))

    def throughput(self, users: int, round_trip_s: float) -> float:
        """Return the true requests/s of so many users of it, slowed; the long run is made once for all speeds."""
        return truths.throughput(self.model, users) * self.round_trip_s / round_trip_s


def slowed(model: Pool | Batching, factor: float) -> Pool | Batching:
    """Return a server that takes so many times as long for everything."""
    if isinstance(model, Pool):
        return replace(model, mean_s=model.mean_s * factor)
    p = model.profile
    per_token = p.prefill_ms_per_token * factor
    profile = replace(
        p, a=p.a * factor, b=p.b * factor, prefill_ms=p.prefill_ms * factor, prefill_ms_per_token=per_token
    )
    return replace(model, profile=profile)


def mean_tokens(model: Model) -> float:
    """Return the mean length of answers."""
    if isinstance(model, Wandering):
        return mean_tokens(model.of)
    assert isinstance(model, Pool | Batching)
    return model.mean_tokens


def batching(batch: int | None, cv: float) -> System:
    """Return an engine with so many places in its batch; None: it has no limit, and 16 are looked at."""
    profile = UNCAPPED if batch is None else replace(CAPPED, batch=batch)
    return System(Batching(profile, TOKENS, cv=cv), batch or 16)


MARKOVIAN = System(Pool(16, 1.0, exponential=True), 16)
MODERATE = System(Pool(16, 1.0, cv=1.0), 16)
HEAVY = System(Pool(32, 1.0, cv=2.0), 32)
