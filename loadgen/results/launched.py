"""How an engine was started: kept while it runs, and part of the manifest of every run that measures it."""

from typing import Any, Literal

import msgspec

from loadgen.measure.facts import GpuFacts

Weights = Literal["trained", "random", "none"]


class Launched(msgspec.Struct, frozen=True, kw_only=True):
    """One start of an engine. Nothing in it is secret."""

    engine: str
    """Its name, or the path of its file."""
    title: str
    """As tables have it, with its version."""
    model: str
    """As tables have it."""
    serves: str
    """Name by which requests ask for the model."""
    source: str
    """What was loaded: Hub id or path."""
    revision: str | None = None
    """Commit of the Hub's repository, where it came from there."""
    dtype: str
    weight_bytes: int | None = None
    """Size of the weights; None where the model's shape is not known."""
    weights: Weights
    template: str | None = None
    """Chat template of ours that it was given; None: the model's own."""
    stop: tuple[str, ...] = ()
    """What ends an answer beside the end-of-sequence token, by the template."""
    context: int
    """Tokens of one conversation."""
    commands: tuple[tuple[str, ...], ...]
    """Its processes, as they were started."""
    variables: dict[str, str]
    """Environment variables that were set for them."""
    runs_in: str
    """``environment`` with the versions of its packages, or ``container``, see below."""
    image: str | None = None
    image_digest: str | None = None
    packages: dict[str, str] = {}
    """Versions of what its environment was asked to hold, and of what the engine builds on."""
    gpus: tuple[GpuFacts, ...] = ()
    """Those that it was given; none: it runs on the CPU."""
    split: Literal["tensor", "layers"] | None = None
    """How the model is spread over several."""
    options: dict[str, Any] = {}
    """Beside the engine's own: what ``matrix.toml`` says for it."""
    says: dict[str, Any] = {}
    """What the running engine told of its version and flags, by route."""
    startup_s: float | None = None
    """From the start to the first answer."""
    notes: tuple[str, ...] = ()
