"""Every figure once: its key, label, unit and formula, how to read it off a record, and its names elsewhere.

Summary, reports, live view, Locust's tables, data frames, limits of ``--slo``, exporter and dashboards are made from
:data:`METRICS`. Whoever adds a figure adds a function and an entry here; ``grafana/generate.py`` then adds its panels.

The clock starts at ``sent_ns``, just before the send call of the request's last byte; connecting is not part of it.
TPOT is that of MLPerf LoadGen (logging.cc) and vLLM (``calculate_metrics``), from the first token to the last.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from loadgen.clock import MS, SECOND
from loadgen.record import Outcome, RequestRecord


def e2e_ms(r: RequestRecord) -> float | None:
    """End of the response minus sent, ms; of complete answers only."""
    if r.outcome is not Outcome.OK or r.sent_ns is None or r.end_ns is None:
        return None
    return (r.end_ns - r.sent_ns) / MS


def ttft_ms(r: RequestRecord) -> float | None:
    """First token minus sent, ms. None where the answer was not streamed."""
    if r.outcome is not Outcome.OK or r.sent_ns is None or r.first_token_ns is None:
        return None
    return (r.first_token_ns - r.sent_ns) / MS


def tpot_ms(r: RequestRecord) -> float | None:
    """(last - first token) / (n - k), ms, n output tokens that the stream showed, k those of the first chunk.

    k is 1 where it is not known. None without a stream, of several answers in one stream, where no token came after the
    first chunk, and where first and last came in one read.
    """
    if r.outcome is not Outcome.OK or r.first_token_ns is None or r.last_token_ns is None or r.output_tokens is None:
        return None
    if r.choices is not None:
        return None
    shown = r.output_tokens - (r.hidden_tokens or 0)
    after_first = shown - (1 if r.first_chunk_tokens is None else r.first_chunk_tokens)
    if after_first < 1 or r.last_token_ns <= r.first_token_ns:
        return None
    return (r.last_token_ns - r.first_token_ns) / after_first / MS


def icl_ms(r: RequestRecord) -> list[float]:
    """Gaps between consecutive chunks, ms: inter-token latencies only where each chunk carries one token."""
    if r.outcome is not Outcome.OK or r.chunk_ns is None:
        return []
    return [(later - earlier) / MS for earlier, later in pairwise(r.chunk_ns)]


def connect_ms(r: RequestRecord) -> float | None:
    """Time to open the connection, TLS included, ms; None on a reused one."""
    if r.connect_ns is None or r.connected_ns is None:
        return None
    return (r.connected_ns - r.connect_ns) / MS


def tokens_per_second(r: RequestRecord) -> float | None:
    """Output tokens over the full round trip: what one user gets."""
    e2e = e2e_ms(r)
    if e2e is None or e2e <= 0 or not r.output_tokens:
        return None
    return r.output_tokens / (e2e * MS / SECOND)


def output_tokens(r: RequestRecord) -> float | None:
    """Output tokens of a complete answer; None where nobody counted them."""
    return None if r.outcome is not Outcome.OK or r.output_tokens is None else float(r.output_tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A figure."""

    key: str
    """Its key in ``summary.json`` and in live data, its column in data frames, its name in ``--slo``."""
    label: str
    """Its name in tables and charts, without the unit."""
    unit: str = ""
    """``ms``; empty where the label has it."""
    title: str
    """Its name in full, as in ``Time to first token``."""
    about: str
    """One sentence on what is measured, for readers of a dashboard."""
    span: str = ""
    """From what to what, in a few words; empty of what is no latency."""
    formula: str
    """In fields of a record."""
    of: Callable[[RequestRecord], float | None] | None = None
    """Its value of one request; None where that has several, or none."""
    from_send: bool = False
    """Whether it counts from the send. In an open loop such a figure also counts from the schedule, its tail is shown
    wherever there is room, and a request without it meets no limit on it."""
    is_limit: bool = False
    """Whether ``--slo`` may limit it."""
    in_locust: bool = False
    """Whether Locust's tables have a row of it: Locust's own response times are not repeated."""
    prometheus: str | None = None
    """Name of its histogram, without ``llmload_`` and ``_seconds``; None: neither exported nor shown live."""
    otel: str | None = None
    """Name by OpenTelemetry's conventions for clients of generative AI, as their Prometheus exporter spells it."""

    @property
    def heading(self) -> str:
        """The label with its unit, as in ``TTFT, ms``."""
        return f"{self.label}, {self.unit}" if self.unit else self.label

    def percentile_heading(self, percentile: str) -> str:
        """Return the heading of one of its percentiles, as in ``TTFT p50, ms``."""
        return f"{self.label} {percentile}, {self.unit}"

    @property
    def histogram(self) -> str:
        """Name of its Prometheus histogram; only of a figure that is exported."""
        return f"llmload_{self.prometheus}_seconds"

    @property
    def histogram_by_name(self) -> str:
        """Name of its Prometheus histogram by the names of requests; only of :data:`FROM_SEND`."""
        return f"llmload_{self.prometheus}_by_name_seconds"


TTFT = Metric(
    key="ttft_ms",
    label="TTFT",
    unit="ms",
    title="Time to first token",
    about="From sending a request to its first token, of answers that ended well.",
    span="sent to first token",
    formula="first_token_ns - sent_ns",
    of=ttft_ms,
    from_send=True,
    is_limit=True,
    in_locust=True,
    prometheus="time_to_first_token",
    otel="gen_ai_client_operation_time_to_first_chunk_seconds",
)
TPOT = Metric(
    key="tpot_ms",
    label="TPOT",
    unit="ms",
    title="Time per output token",
    about="Mean time of a token after the first: one value per answer.",
    span="per later token",
    formula="(last_token_ns - first_token_ns) / (output_tokens - hidden_tokens - first_chunk_tokens)",
    of=tpot_ms,
    is_limit=True,
    in_locust=True,
    prometheus="time_per_output_token",
)
ITL = Metric(
    key="itl_ms",
    label="ITL",
    unit="ms",
    title="Inter-token latency",
    about="Gap between consecutive chunks of an answer: one value per gap.",
    span="between tokens",
    formula="chunk_ns[i] - chunk_ns[i - 1], where a chunk has one token",
    prometheus="inter_token_latency",
    otel="gen_ai_client_operation_time_per_output_chunk_seconds",
)
ICL = Metric(
    key="icl_ms",
    label="ICL",
    unit="ms",
    title="Inter-chunk latency",
    about="Gap between consecutive chunks of an answer, which have several tokens each: one value per gap.",
    span="between chunks of several tokens",
    formula="chunk_ns[i] - chunk_ns[i - 1], where a chunk has several tokens",
)
E2E = Metric(
    key="e2e_ms",
    label="E2E",
    unit="ms",
    title="End-to-end latency",
    about="From sending a request to the end of its answer.",
    span="sent to end",
    formula="end_ns - sent_ns",
    of=e2e_ms,
    from_send=True,
    is_limit=True,
    prometheus="request_duration",
    otel="gen_ai_client_operation_duration_seconds",
)
CONNECT = Metric(
    key="connect_ms",
    label="connecting",
    unit="ms",
    title="Time to connect",
    about="Time to open a connection, TLS included; not part of the other figures.",
    span="before sending",
    formula="connected_ns - connect_ns",
    of=connect_ms,
)
TOKENS_PER_SECOND = Metric(
    key="tokens_per_second",
    label="tokens/s",
    title="Tokens per second of one user",
    about="Output tokens of an answer over its full round trip.",
    formula="output_tokens / (end_ns - sent_ns)",
    of=tokens_per_second,
    in_locust=True,
)
OUTPUT_TOKENS = Metric(
    key="output_tokens",
    label="output tokens",
    title="Output tokens of a request",
    about="Output tokens of a complete answer.",
    formula="output_tokens",
    of=output_tokens,
    in_locust=True,
)
REQUESTS_PER_MINUTE = Metric(
    key="requests_per_minute",
    label="requests/min",
    title="Requests per minute",
    about="Complete answers per minute, of all users together.",
    formula="answers of a window / its length; an answer that crosses an edge counts in proportion",
)
OUTPUT_TOKENS_PER_SECOND = Metric(
    key="output_tokens_per_second",
    label="output tokens/s",
    title="Output tokens per second",
    about="Output tokens of complete answers per second, of all users together.",
    formula="output tokens of a window / its length, in the same proportion",
)
THINK = Metric(
    key="think_ms",
    label="think time, mean",
    unit="ms",
    title="Think time",
    about="Mean time of a user between an answer and the next request.",
    formula="think_ns",
)

METRICS = (
    TTFT,
    TPOT,
    ITL,
    ICL,
    E2E,
    CONNECT,
    TOKENS_PER_SECOND,
    OUTPUT_TOKENS,
    REQUESTS_PER_MINUTE,
    OUTPUT_TOKENS_PER_SECOND,
    THINK,
)
"""All figures, in the order in which tables show them."""

PER_REQUEST = tuple(metric for metric in METRICS if metric.of is not None)
"""Figures that a request has one value of."""

LATENCIES = tuple(metric for metric in METRICS if metric.span)
"""Figures that are distributed, in ms: those of requests, and the gaps between chunks."""

EXPORTED = tuple(metric for metric in METRICS if metric.prometheus is not None)
"""Latencies that are counted into histograms while a run goes on, for the live view and for Prometheus."""

FROM_SEND = tuple(metric for metric in EXPORTED if metric.from_send)
"""What a user waits for."""

LIMITS = tuple(metric for metric in METRICS if metric.is_limit)
"""What ``--slo`` may limit."""

PERCENTILES_SHOWN = tuple(
    (metric, percentile)
    for metric in LATENCIES
    if metric is not CONNECT
    for percentile in (("p50", "p99") if metric.from_send else ("p50",))
)
"""Percentiles that wide tables have columns for: the median of each latency, and the tail of what users wait for.
Connecting has none, as most requests reuse a connection."""
