"""What is counted, under vLLM 0.32's names, with its histograms' buckets. Updated once per request."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from loadgen.engines.simulated import wire

_LABELS = f'engine="0",model_name="{wire.MODEL}"'
_TTFT: tuple[float, ...] = (
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1.0,
    2.5,
    5.0,
    7.5,
    10.0,
    20.0,
    40.0,
    80.0,
)
_TTFT += (160.0, 640.0, 2560.0)
_ITL = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0)
_E2E: tuple[float, ...] = (
    0.3,
    0.5,
    0.8,
    1.0,
    1.5,
    2.0,
    2.5,
    5.0,
    10.0,
    15.0,
    20.0,
    30.0,
    40.0,
    50.0,
    60.0,
    120.0,
    240.0,
    480.0,
    960.0,
)
_E2E += (1920.0, 7680.0)


@dataclass(slots=True)
class Histogram:
    """Counts of times in s."""

    name: str
    words: str
    bounds: Sequence[float]
    counts: list[int] = field(init=False)
    """How many values lie at or below each bound, as Prometheus counts them."""
    total: float = 0.0
    count: int = 0

    def __post_init__(self) -> None:
        self.counts = [0] * len(self.bounds)

    def observe(self, ns: list[int]) -> None:
        """Count values, ns; they are sorted in place, as a look-up per bound is cheaper than one per value."""
        ns.sort()
        for index, bound in enumerate(self.bounds):
            self.counts[index] += bisect_right(ns, bound * 1e9)
        self.total += sum(ns) / 1e9
        self.count += len(ns)

    def lines(self) -> Iterator[str]:
        """Yield the lines of the exposition format."""
        yield from _about(self.name, "histogram", self.words)
        for bound, count in [*zip(self.bounds, self.counts, strict=True), ("+Inf", self.count)]:
            yield f'{self.name}_bucket{{engine="0",le="{bound}",model_name="{wire.MODEL}"}} {float(count)}'
        yield f"{self.name}_count{{{_LABELS}}} {float(self.count)}"
        yield f"{self.name}_sum{{{_LABELS}}} {self.total}"


@dataclass(slots=True)
class Metrics:
    """All counts since the start."""

    prompt_tokens: int = 0
    generated_tokens: int = 0
    prefix_queries: int = 0
    prefix_hits: int = 0
    finished: dict[str, int] = field(default_factory=lambda: {"stop": 0, "length": 0, "abort": 0, "error": 0})
    ttft: Histogram = field(
        default_factory=lambda: Histogram(
            "vllm:time_to_first_token_seconds", "Histogram of time to first token in seconds.", _TTFT
        )
    )
    itl: Histogram = field(
        default_factory=lambda: Histogram(
            "vllm:inter_token_latency_seconds", "Histogram of inter-token latency in seconds.", _ITL
        )
    )
    e2e: Histogram = field(
        default_factory=lambda: Histogram(
            "vllm:e2e_request_latency_seconds", "Histogram of e2e request latency in seconds.", _E2E
        )
    )

    def render(self, running: int, waiting: int, kv_used: float) -> bytes:
        """Return the exposition; ``kv_used`` is a share of 1."""
        lines = [
            *_single("vllm:num_requests_running", "gauge", "Number of requests in model execution batches.", running),
            *_single("vllm:num_requests_waiting", "gauge", "Number of requests waiting to be processed.", waiting),
            *_single("vllm:kv_cache_usage_perc", "gauge", "KV-cache usage. 1 means 100 percent usage.", kv_used),
            *_counter("vllm:prompt_tokens", "Number of prefill tokens processed.", self.prompt_tokens),
            *_counter("vllm:generation_tokens", "Number of generation tokens processed.", self.generated_tokens),
            *_counter("vllm:prefix_cache_queries", "Prefix cache queries, in tokens.", self.prefix_queries),
            *_counter("vllm:prefix_cache_hits", "Prefix cache hits, in tokens.", self.prefix_hits),
            *_about("vllm:request_success_total", "counter", "Count of successfully processed requests."),
        ]
        for reason, count in self.finished.items():
            labels = f'engine="0",finished_reason="{reason}",model_name="{wire.MODEL}"'
            lines.append(f"vllm:request_success_total{{{labels}}} {float(count)}")
        for histogram in (self.ttft, self.itl, self.e2e):
            lines += histogram.lines()
        return ("\n".join(lines) + "\n").encode()


def _about(name: str, kind: str, words: str) -> tuple[str, str]:
    return f"# HELP {name} {words}", f"# TYPE {name} {kind}"


def _counter(name: str, words: str, value: float) -> tuple[str, ...]:
    return _single(name + "_total", "counter", words, value)


def _single(name: str, kind: str, words: str, value: float) -> tuple[str, ...]:
    return *_about(name, kind, words), f"{name}{{{_LABELS}}} {float(value)}"
