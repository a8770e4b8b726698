"""Sweeps of engines whose capacity is known in closed form: is it found, by another seed and with two processes too."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from benchmarks import sweeps
from benchmarks.figures import Figures, Section
from benchmarks.machine import CLIENT_CORE, environment
from benchmarks.options import counts
from benchmarks.ours import RunError
from benchmarks.rounds import run_rounds
from benchmarks.sweeps import Bound, Headline
from benchmarks.usage import run

BOUNDS = {
    bound.profile: bound
    for bound in (
        Bound("batch-bound", time_factor=4, output_tokens=64, by="batch limit"),
        Bound("prefill-bound", time_factor=3, output_tokens=16, by="prefill"),
        Bound("kv-bound", time_factor=2, output_tokens=64, by="KV cache"),
        Bound("tgi-1.0.1-llama2-70b", time_factor=16, output_tokens=64, by="batch limit and prefill"),
    )
}
_TIMEOUT_S = 900.0
_KINDS = {"doubling": (1, ()), "16 and 256 users": (4, ("--steps", "16,256", "--step-time", "12"))}
"""How much longer answers are, and options: the second one is far above every capacity, with little time for it."""
_USABLE = {0, 3, 4}
"""Exit statuses of a run that ended as it should: valid, invalid, inconclusive."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare what may be varied."""
    parser.add_argument("--profiles", default=",".join(BOUNDS), help="engines")
    parser.add_argument("--seeds", type=counts, default="1,2", help="of the samples")
    parser.add_argument("--processes", type=counts, default="1,2", help="numbers of processes")
    parser.add_argument("--kinds", default=",".join(_KINDS), help="sweeps")
    parser.set_defaults(rounds=1)


def measure(options: argparse.Namespace) -> Section:
    """Run all cases."""
    found: dict[str, list[Headline]] = {}
    cases = {}
    for profile in options.profiles.split(","):
        for kind in options.kinds.split(","):
            longer, asked = _KINDS[kind]
            bound = replace(BOUNDS[profile], output_tokens=longer * BOUNDS[profile].output_tokens)
            for processes in options.processes.split(","):
                for seed in options.seeds.split(","):
                    several = () if processes == "1" else ("--processes", processes)
                    case = partial(
                        _round, bound, [*asked, *several, "--seed", seed], found.setdefault(f"{profile}, {kind}", [])
                    )
                    cases[f"{profile}, {kind}, seed {seed}, {processes} processes"] = case
    measured, failures = run_rounds(cases, options.rounds)
    lines = [line for name, headlines in found.items() for line in _lines(name, headlines)]
    title = (
        f"sweep.py, prompts of {sweeps.PROMPT_TOKENS} tokens, of the simulated engine; closed form: "
        "B / ((n - 1) (a + b B) + B c)"
    )
    return Section(title, measured, [*failures, *lines, *_notes()])


def _notes() -> list[str]:
    return [
        "Allowed: half the width of the stated interval, or 2 % where that is more. No headline: with its reason.",
        "Runs agree where their intervals overlap, or they are at most 1 % apart.",
        "A seed is that of the sample and its order: the engine's times hang on the number of tokens alone.",
    ]


def _round(bound: Bound, asked: Sequence[str], found: list[Headline]) -> Figures:
    with sweeps.engine(bound) as place:
        usage = run(
            sweeps.command(place, *asked),
            core=CLIENT_CORE,
            env=environment(),
            cwd=place.folder,
            timeout=_TIMEOUT_S,
        )
        if usage.timed_out or usage.status not in _USABLE:
            raise RunError(f"our client ended with status {usage.status}: {usage.tail}")
        headline = sweeps.headline(place, lambda: usage.tail)
    truth = bound.requests_per_minute
    found.append(replace(headline, truth=truth))
    whole = {"closed form, requests/min": truth, "steps": len(headline.summary["steps"]), "whole run, s": usage.wall_s}
    if headline.value is None:
        return whole
    interval = {} if headline.ci95 is None else {"from, requests/min": headline.ci95[0], "to": headline.ci95[1]}
    return {
        **whole,
        "measured, requests/min": headline.value,
        **interval,
        "off by, %": 100 * (headline.value / truth - 1),
        "allowed, %": 100 * headline.allowed,
        "at users": headline.users,
    }


def _lines(name: str, headlines: list[Headline]) -> list[str]:
    """Return a line for each run of a kind, and whether they agree."""
    lines = [f"{name}: {headline.compared}" for headline in headlines]
    known = [headline for headline in headlines if headline.value is not None]
    if len(known) > 1:
        agree = all(known[0].agrees(other) for other in known[1:])
        lines.append(f"{name}: the runs {'agree' if agree else 'DO NOT agree'}.")
    return lines
