"""What was found of one engine with one model: what the tables are made from."""

from collections.abc import Mapping
from dataclasses import dataclass

from loadgen.results.summary_schema import Summary


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One cell of each table; a summary for each repeat that was done."""

    engine: str
    """Column."""
    model: str
    """Row."""
    speed: tuple[Summary, ...] = ()
    """Of non-streaming runs of one user: the figures of the first table."""
    streaming: tuple[Summary, ...] = ()
    """Of streaming runs of one user: TTFT and TPOT."""
    throughput: tuple[Summary, ...] = ()
    """Of sweeps."""
    failed: str | None = None
    """Why a part of it is missing; None where nothing failed."""
    skipped: str | None = None
    """Why it was not even tried, where engine and model do not go together."""
    reference: str | None = None
    """Engine, by its name in the specification, whose reference values stand beside."""
    bound: float | None = None
    """Output tokens/s that the memory bandwidth allows one user; None where GPU or shape are not known."""
    bound_text: str | None = None
    """What the bound is of, as in ``2x A100-SXM4-80GB, tensor parallel``."""
    time_factor: float = 1.0
    """So many times faster than it should ran the simulated engine; figures are given in its own time."""
    input_tokens: Mapping[int, int] | None = None
    """Prompt tokens by row of the data set, as the server counted them."""
    prompt_tokens: int | None = None
    """Of all requests of a run together, for engines that tell no more; None where some failed, or nobody counted."""
    templates: str | None = None
    """Where it takes chat templates from, if that is not the model's files."""
    reservations: tuple[str, ...] = ()
    """What has to be said of it everywhere: SIMULATED, random weights."""
