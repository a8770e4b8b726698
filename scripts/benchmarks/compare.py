"""Our client beside other load generators: cost, errors, streams held, memory; same server, same cores, in turn."""

import argparse
import sys
from collections.abc import Iterable, Mapping
from functools import partial

from benchmarks.figures import Case, Figures, Section
from benchmarks.ours import peer_of
from benchmarks.peers import PEERS
from benchmarks.peers import measure as peers
from benchmarks.peers.arithmetic import Spread
from benchmarks.peers.peer import Load, Peer
from benchmarks.rounds import run_rounds

EAGER, LAZY = "loadgen, token by token", "loadgen, lazily"
OURS: Mapping[str, Peer] = {EAGER: peer_of("loadgen", "1"), LAZY: peer_of("loadgen", "0")}
COST, ERROR = "CPU-s per million tokens", "TTFT error"
_REQUESTS, _MEMORY = "one-token requests per CPU-s", "memory, MB per stream"
_PARTS = ("tokens", "requests", "many")
_SHORT, _LONG = 3, 9
"""Requests of a stream in the two runs; with fewer, what guidellm and AIPerf take to start hides the slope."""
_FEW = 64


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare what may be varied."""
    parser.add_argument("--peers", default=",".join(PEERS), help="which, by name")
    parser.add_argument("--streams", type=int, default=256, help="concurrent streams, for cost and errors")
    parser.add_argument(
        "--many", type=int, default=1024, help="concurrent streams asked for, for streams held and memory"
    )
    parser.add_argument("--tokens", type=int, default=128, help="tokens of an answer")
    parser.add_argument("--long-tokens", type=int, default=512, help="of a long one, for our cost when draining lazily")
    parser.add_argument("--parts", default=",".join(_PARTS), help="which measurements, of " + ", ".join(_PARTS))


def measure(options: argparse.Namespace) -> Section:
    """Run all tools in turn."""
    chosen = {**OURS, **{name: PEERS[name] for name in _named(options.peers, "--peers", PEERS)}}
    cases = {
        f"{_titled(name, peer)}|{part}": partial(_MEASURES[part], name, peer, options)
        for part in _named(options.parts, "--parts", _MEASURES)
        for name, peer in chosen.items()
    }
    found, notes = run_rounds(cases, options.rounds)
    tools = _with_ratios([_joined(_titled(name, peer), found) for name, peer in chosen.items()])
    notes += (
        (
            "Cost: user and system time of all the tool's processes, the slope between "
            f"{_SHORT} and {_LONG} requests a stream. Errors: reported minus true, the true TTFT from the arrival of a "
            "request at the server to the send of its first token; of gaps without sign. guidellm sends no ids: its "
            "TTFT is set against the log's median, and it reports no gaps."
        ),
        f"Memory: resident, the slope between {_FEW} and {options.many:,} streams with the same number of requests.",
        f"Answers of {options.tokens} tokens; only ours, drained lazily, also of {options.long_tokens}.",
    )
    title = f"{options.streams} streams, TTFT 50 ms, {options.tokens} tokens 10 ms apart"
    part = "" if options.parts == ",".join(_PARTS) else options.parts
    return Section(title, tools, notes, part)


def _named(text: str, option: str, known: Iterable[str]) -> list[str]:
    names = [name for name in text.split(",") if name]
    if unknown := set(names) - set(known):
        sys.exit(f"scripts/bench: {option}: no {', '.join(sorted(unknown))}; there are {', '.join(known)}.")
    return names


def _titled(name: str, peer: Peer) -> str:
    return name if name in OURS else f"{name} {peer.version}"


def _tokens(name: str, peer: Peer, options: argparse.Namespace) -> Figures:
    streams = options.streams
    slope = peers.cost(peer, Load(streams, tokens=options.tokens), _SHORT * streams, _LONG * streams)
    off = slope.long.errors
    figures = {COST: slope.value, **_spread(ERROR, off.ttft)}
    if off.itl is not None:
        figures |= _spread("ITL error", off.itl)
    if name == LAZY:
        long = peers.cost(peer, Load(streams, tokens=options.long_tokens), 2 * streams, 6 * streams)
        figures[f"{COST}, answers of {options.long_tokens}"] = long.value
    return figures | {"answers it reports, % of those asked for": 100 * off.completed / slope.long.load.requests}


def _requests(_name: str, peer: Peer, _options: argparse.Namespace) -> Figures:
    return {_REQUESTS: peers.requests_per_cpu_second(peer).value}


def _many(_name: str, peer: Peer, options: argparse.Namespace) -> Figures:
    slope = peers.memory(peer, _FEW, options.many, Load(tokens=options.tokens))
    return {f"held at once, of {options.many:,} asked for": slope.long.held, _MEMORY: slope.value}


_MEASURES = {"tokens": _tokens, "requests": _requests, "many": _many}


def _spread(name: str, values: Spread) -> dict[str, float]:
    numbers = {"mean": values.mean, "p50": values.p50, "p99": values.p99, "max": values.max}
    return {f"{name} {which}, ms": number for which, number in numbers.items()}


def _joined(name: str, cases: list[Case]) -> Case:
    """Return one case of the measurements of a tool, each of which may have failed in any of the rounds."""
    own = [case for case in cases if case.name.partition("|")[0] == name]
    return Case(name, [figures for case in own for figures in case.rounds])


def _with_ratios(tools: list[Case]) -> list[Case]:
    """Add to each tool what it takes for one of ours, round by round; above 1 ours is the better one."""
    ours = {tool.name: tool for tool in tools if tool.name in OURS}
    for tool in tools:
        for name, own in ours.items():
            tool.rounds += [{f"{COST}, times that of {name}": r} for r in _ratios(tool, own, COST)]
        if EAGER in ours:
            tool.rounds += [{f"{_REQUESTS}, of ours over its": 1 / r} for r in _ratios(tool, ours[EAGER], _REQUESTS)]
            tool.rounds += [{f"{_MEMORY}, times ours": r} for r in _ratios(tool, ours[EAGER], _MEMORY)]
    return tools


def _ratios(tool: Case, own: Case, figure: str) -> list[float]:
    pairs = zip(tool.values(figure), own.values(figure), strict=False)  # a round that failed has none
    return [theirs / ours for theirs, ours in pairs if theirs > 0 and ours > 0]
