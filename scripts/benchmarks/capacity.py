"""Sweeps of engines whose capacity is known in closed form: is it found, and by another seed again."""

import argparse
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
_TIMEOUT_S = 600.0
_USABLE = {0, 3, 4}
"""Exit statuses of a run that ended as it should: valid, invalid, inconclusive."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare what may be varied."""
    parser.add_argument("--profiles", default=",".join(BOUNDS), help="engines")
    parser.add_argument("--seeds", type=counts, default="1,2", help="of the samples")
    parser.set_defaults(rounds=1)


def measure(options: argparse.Namespace) -> Section:
    """Run all cases."""
    found: dict[str, list[Headline]] = {}
    seeds = options.seeds.split(",")
    cases = {
        f"{profile}, seed {seed}": partial(_round, BOUNDS[profile], seed, found.setdefault(profile, []))
        for profile in options.profiles.split(",")
        for seed in seeds
    }
    measured, failures = run_rounds(cases, options.rounds)
    lines = [line for profile, headlines in found.items() for line in _lines(BOUNDS[profile], headlines)]
    title = (
        f"sweep.py with doubling, prompts of {sweeps.PROMPT_TOKENS} tokens, of the simulated engine; closed form: "
        "B / ((n - 1) (a + b B) + B c)"
    )
    return Section(title, measured, [*failures, *lines, *_notes()])


def _notes() -> list[str]:
    return [
        "Within: off by at most half the width of the stated interval, or 1 % where that is more.",
        "Seeds agree where their intervals overlap, or they are at most 1 % apart.",
        "A seed is that of the sample and its order: the engine's times hang on the number of tokens alone.",
    ]


def _round(bound: Bound, seed: str, found: list[Headline]) -> Figures:
    with sweeps.engine(bound) as place:
        usage = run(
            sweeps.command(place, "--seed", seed),
            core=CLIENT_CORE,
            env=environment(),
            cwd=place.folder,
            timeout=_TIMEOUT_S,
        )
        if usage.timed_out or usage.status not in _USABLE:
            raise RunError(f"our client ended with status {usage.status}: {usage.tail}")
        headline = sweeps.headline(place, lambda: usage.tail)
    found.append(headline)
    truth = bound.requests_per_minute
    interval = {} if headline.ci95 is None else {"from, requests/min": headline.ci95[0], "to": headline.ci95[1]}
    return {
        "closed form, requests/min": truth,
        "measured, requests/min": headline.value,
        **interval,
        "off by, %": 100 * (headline.value / truth - 1),
        "allowed, %": 100 * headline.allowed,
        "at users": headline.users,
        "steps": len(headline.summary["steps"]),
        "whole run, s": usage.wall_s,
    }


def _lines(bound: Bound, headlines: list[Headline]) -> list[str]:
    """Return a line for each run of an engine, and whether they agree."""
    truth = bound.requests_per_minute
    lines = []
    for headline in headlines:
        off = headline.value / truth - 1
        within = "within" if abs(off) <= headline.allowed else "NOT within"
        lines.append(
            f"{bound.profile} x{bound.time_factor:g}, bound by {bound.by}, {bound.output_tokens} tokens: closed form "
            f"{truth:,.0f}, {headline.text} at {headline.users} users, off by {off:+.2%}, {within} "
            f"{headline.allowed:.2%}, {'; '.join([headline.verdict, *headline.findings])}"
        )
    if len(headlines) > 1:
        agree = all(headlines[0].agrees(other) for other in headlines[1:])
        lines.append(f"{bound.profile}: the seeds {'agree' if agree else 'DO NOT agree'}.")
    return lines
