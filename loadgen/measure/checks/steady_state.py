"""Whether what was measured had stopped changing."""

from collections.abc import Sequence

from loadgen.measure.change import FEWEST, change
from loadgen.measure.check import Finding, Status, check
from loadgen.measure.checks.effect import NOT_KNOWN
from loadgen.measure.evidence import Evidence, SoFar
from loadgen.measure.facts import Arrivals, StepFacts
from loadgen.metrics import TOKENS_PER_SECOND
from loadgen.printable import percent


def _steadiness_so_far(s: SoFar) -> Finding:
    if not s.steps:
        return Finding(Status.NOT_CHECKED)
    value = f"not at {', '.join(map(str, s.unsteady))} users" if s.unsteady else "in every step so far"
    return Finding(Status.WARN if s.unsteady else Status.OK, value, "steady")


@check(
    id="steady-state",
    title="steady state",
    limit="no change that chance does not explain",
    live=_steadiness_so_far,
)
def steadiness(e: Evidence) -> Finding:
    """Check whether what was measured had stopped changing."""
    if e.arrivals is not None:
        return _steadiness_of_arrivals(e.arrivals)
    if e.is_one_user:
        return _steadiness_of_speed(e)
    if not e.steps:
        return Finding(Status.NOT_CHECKED)
    return _steadiness_of_steps(e.steps)


def _steadiness_of_steps(steps: Sequence[StepFacts]) -> Finding:
    if all(step.window_ns is None for step in steps):
        effect = "There is no requests/min."
        return Finding(Status.INCONCLUSIVE, "no step came to an end", "steady", "A longer --run-time.", effect)
    wrong = [f"{s.concurrency} users: {s.unsteady or 'broken off'}" for s in steps if s.unsteady or not s.window_ns]
    if wrong:
        effect = "These steps are part of neither the headline nor the knee."
        if len(wrong) == len(steps):
            effect = "No step is left for a headline, and there is no knee."
        return Finding(Status.WARN, "; ".join(wrong), "steady", "A longer --step-time, or a warmer engine.", effect)
    short = [str(s.concurrency) for s in steps if s.undecided]
    if short:
        value = f"too short to tell at {', '.join(short)} users"
        return Finding(Status.NOT_CHECKED, value, "steady", "A longer --step-time.")
    return Finding(Status.OK, "in every step", "steady")


def _steadiness_of_arrivals(asked: Arrivals) -> Finding:
    if asked.window_ns is None:
        effect = "There is no requests/min, and no latency from the schedule."
        return Finding(Status.INCONCLUSIVE, "too few requests to tell", "steady", "A longer --run-time.", effect)
    if asked.undecided is not None:
        return Finding(Status.NOT_CHECKED, asked.undecided, "steady", "A longer --run-time.")
    if asked.unsteady is None:
        return Finding(Status.OK, "requests in flight steady", "steady")
    effect = f"While this changes, latencies depend on how long the run lasts, {NOT_KNOWN}."
    return Finding(Status.WARN, asked.unsteady, "steady", "A longer --run-time, or a lower --rate.", effect)


def _steadiness_of_speed(e: Evidence) -> Finding:
    """Check whether one user's answers became faster or slower in the course of the run."""
    rates = e.ok.sorted_by("sent_ns").known_figures(TOKENS_PER_SECOND)
    if len(rates) < FEWEST:
        return Finding(Status.NOT_CHECKED, f"{len(rates)} answers", "no change", "More --requests.")
    found = change(rates)
    if found is None:
        return Finding(Status.OK, f"no change over {len(rates)} answers", "no change")
    value = (
        f"the first {found.before} answers {found.mean_before:.1f} tokens/s, the other {len(rates) - found.before} "
        f"{found.mean_after:.1f}"
    )
    advice = (
        f"If the engine was still warming up, add {found.before} to --warmup; else see what changed, and repeat it."
    )
    apart = float(rates.mean()) / found.mean_after - 1
    effect = (
        f"tokens/s is the mean of both: it reads {percent(abs(apart), 1)} {'low' if apart < 0 else 'high'} against the "
        f"later {len(rates) - found.before} answers."
    )
    return Finding(Status.WARN, value, "no change", advice, effect)
