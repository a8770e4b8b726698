"""What objections do to the figures of a run: words that several checks use.

An effect is stated in the units of the headline and with the value that was measured. Where no bound follows from the
records, the effect says that it is not known; it is never guessed.
"""

import numpy as np

from loadgen.measure.columns import Floats
from loadgen.measure.evidence import Evidence
from loadgen.measure.records import Records
from loadgen.metrics import E2E, OUTPUT_TOKENS_PER_SECOND, REQUESTS_PER_MINUTE, TOKENS_PER_SECOND
from loadgen.printable import percent

NOT_KNOWN = "by how much is not known"


def main_figure(e: Evidence) -> str:
    """Return what the headline of the run is called."""
    return (TOKENS_PER_SECOND if e.is_one_user else REQUESTS_PER_MINUTE).label


def token_figure(e: Evidence) -> str:
    """Return what the figure is called that counts tokens over time."""
    return (TOKENS_PER_SECOND if e.is_one_user else OUTPUT_TOKENS_PER_SECOND).label


def up_to(figure: str, share: float, direction: str) -> str:
    """Return a bound, as in ``requests/min may read up to 3.0 % low``."""
    return f"{figure} may read up to {percent(share, 1)} {direction}"


def speed_reads_low(ok: Records, late_ms: Floats | float) -> float | None:
    """Return by which share the mean tokens/s of some answers reads low if each ended ``late_ms`` before its record.

    None where that leaves no time for an answer, or no answer has a count of tokens.
    """
    e2e, speed = ok.figure(E2E), ok.figure(TOKENS_PER_SECOND)
    left = e2e - late_ms
    known = ~np.isnan(speed)
    if not known.any() or (left[known] <= 0).any():
        return None
    return 1 - float(speed[known].mean()) / float((speed * e2e / left)[known].mean())
