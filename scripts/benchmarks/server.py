"""Whether the truth server was the bottleneck: its log against its script, and the CPU time it took."""

from collections.abc import Iterable

from benchmarks.figures import spread
from benchmarks.ours import Run
from benchmarks.peers.arithmetic import held_of
from loadgen.clock import MS, SECOND
from loadgen.engines.simulated import wire
from loadgen.engines.simulated.script import Script, timeline
from loadgen.measure.truth import Truth


def lateness_ms(truths: Iterable[Truth], script: Script) -> list[float]:
    """Return how much later than the script says each send was."""
    return [
        (at - truth.received_ns - send.at) / MS
        for truth in truths
        for at, send in zip(truth.sent_ns, timeline(script, truth.output_tokens, 0, truth.request_id), strict=True)
    ]


def answer_bytes(script: Script, tokens: int) -> int:
    """Return how many bytes an answer is on the wire."""
    return len(wire.head(keep_alive=False)) + sum(len(send.data) for send in timeline(script, tokens, 10, ""))


def figures(run: Run) -> dict[str, float]:
    """Return what the server did in a run of ours."""
    truths = list(run.truths.values())
    span_s = (max(t.sent_ns[-1] for t in truths) - min(t.received_ns for t in truths)) / SECOND
    return {
        **spread("server late by", lateness_ms(truths, run.setup.script)),
        "server CPU, % of its core, warm-up included": 100 * run.server_cpu_s / span_s,
        "held at once, by its log": held_of(truths),
    }
