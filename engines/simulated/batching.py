"""A model of an engine with continuous batching: steps that decode all running requests at once, and a queue.

A step decodes one token of each running request and takes ``a + b * running`` ms. A prefill is a step of its own: it
takes ``c = prefill_ms + prefill_ms_per_token * p`` for a prompt of p tokens (nothing for one that is cached), gives the
first token, and holds up decoding (as engines without chunked prefill do). A request is admitted when there is a place
in the batch and room for its prompt and its whole answer in the KV cache; requests are admitted in the order in which
they came.

Capacity in closed form, requests per second of n output tokens: ``B / ((n - 1) (a + b B) + B c)``, with B the batch
limit or, where that is smaller, the number of requests that the KV cache holds.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

MS = 1_000_000


@dataclass(frozen=True, slots=True)
class Profile:
    """What the engine is able to; times in ms, capacities in requests and tokens."""

    a: float
    b: float
    prefill_ms: float = 0.0
    prefill_ms_per_token: float = 0.0
    batch: int = 256
    kv_tokens: int = 10**9

    def running_at_most(self, prompt: int, output: int) -> int:
        """Return how many requests of these lengths run at once; 0 if not even one fits."""
        return min(self.batch, self.kv_tokens // (prompt + output))

    def requests_per_second(self, prompt: int, output: int) -> float:
        """Return the capacity for requests of these lengths, from the closed form."""
        running = self.running_at_most(prompt, output)
        prefill = self.prefill_ms + self.prefill_ms_per_token * prompt
        return 1000 * running / ((output - 1) * (self.a + self.b * running) + running * prefill)


SPECIFIED = {
    "vllm-0.1.3/mpt-7b-chat": 84.37,
    "tgi-1.0.1/mpt-7b-chat": 67.16,
    "vllm-0.1.3/falcon-7b-instruct": 82.68,
    "vllm-0.1.3/vicuna-13b-v1.3": 41.14,
    "transformers-4.31.0/vicuna-13b-v1.5": 30.40,
    "vllm-0.1.3/vicuna-13b-v1.5": 48.42,
    "tgi-1.0.1/vicuna-13b-v1.5": 49.48,
    "transformers-4.31.0/oasst-30b": 14.89,
    "vllm-0.1.3/oasst-30b": 21.80,
    "tgi-1.0.1/oasst-30b": 22.05,
    "transformers-4.31.0/llama2-70b-chat": 9.53,
    "vllm-0.1.3/llama2-70b-chat": 17.00,
    "tgi-1.0.1/llama2-70b-chat": 18.61,
}
"""Output tokens/s of one user over the whole round trip: the specification's figures, by ``ENGINE/MODEL``."""

SPECIFIED_THROUGHPUT = {"transformers-4.31.0": 0.6, "vllm-0.1.3": 14.4, "tgi-1.0.1": 6.0}
"""Requests/min of llama2-70b-chat by engine, as the specification's author published them later."""

ANSWER_TOKENS = 953
"""Of the answers of that throughput: at 9.53 tokens/s one after the other, they make 0.6 requests/min."""

_BATCH = {"transformers-4.31.0": 1, "vllm-0.1.3": 32, "tgi-1.0.1": 16}
"""Not published. Transformers answers one request after the other, and vLLM's paged KV cache holds more of them."""


def _specified() -> Iterator[tuple[str, Profile]]:
    """Return the profiles that reproduce the specification's figures.

    A prefill takes as long as a step of one request, ``1000 / figure`` ms, so that one user gets the figure whatever
    the answer's length. What a further request adds to a step follows for llama2-70b-chat from the throughput, by the
    closed form; for an engine's other models it is the same share of the step, as nothing else is known.
    """
    shares: dict[str, float] = {}
    for engine, requests_per_minute in SPECIFIED_THROUGHPUT.items():
        step, batch = 1000 / SPECIFIED[f"{engine}/llama2-70b-chat"], _BATCH[engine]
        if batch > 1:
            full = (60_000 / requests_per_minute - step) * batch / (ANSWER_TOKENS - 1)
            shares[engine] = (full / step - 1) / (batch - 1)
    for name, tokens_per_second in SPECIFIED.items():
        engine = name.partition("/")[0]
        step = 1000 / tokens_per_second
        b = shares.get(engine, 0.0) * step
        yield name, Profile(a=step - b, b=b, prefill_ms=step, batch=_BATCH[engine])


# a + b is the time per token that the specification's figure for one user implies; b and the rest are plausible.
PROFILES = {
    "vllm-0.1.3-llama2-70b": Profile(a=58.0, b=0.82, prefill_ms=20, prefill_ms_per_token=0.35, kv_tokens=60_000),
    "tgi-1.0.1-llama2-70b": Profile(a=52.5, b=1.23, prefill_ms=20, prefill_ms_per_token=0.35, batch=32),
    "transformers-4.31.0-llama2-70b": Profile(a=104.9, b=0.03, prefill_ms=30, prefill_ms_per_token=0.7, batch=1),
    "vllm-0.1.3-vicuna-13b": Profile(a=20.2, b=0.45, prefill_ms=8, prefill_ms_per_token=0.07, kv_tokens=48_000),
    "prefill-bound": Profile(a=2.0, b=0.01, prefill_ms=10, prefill_ms_per_token=0.5, batch=64),
    "batch-bound": Profile(a=10.0, b=0.1, batch=16),
    "kv-bound": Profile(a=10.0, b=0.1, batch=256, kv_tokens=4_000),
    **dict(_specified()),
}
"""Engines by name: plausible ones, three that are bound by what their name says, and the specification's figures."""


@dataclass(slots=True, eq=False)
class Sequence:
    """One request in the engine."""

    prompt: int
    output: int
    produced: int = 0
    cached: bool = False
    """Its prompt was found in the prefix cache."""
    owner: object = None

    @property
    def kv_tokens(self) -> int:
        """What is set aside for it in the KV cache."""
        return self.prompt + self.output


@dataclass(slots=True)
class Engine:
    """The engine's state. Time is passed in, ns; :attr:`due` is when the step that runs ends."""

    profile: Profile
    time_factor: float = 1.0
    """All times are divided by it."""
    queue: deque[Sequence] = field(default_factory=deque)
    running: list[Sequence] = field(default_factory=list)
    due: int | None = None
    kv_used: int = 0
    _stepping: list[Sequence] = field(default_factory=list)
    """Who gets a token from the step that runs."""

    def submit(self, sequence: Sequence, now: int) -> None:
        """Take a request; raises ValueError if it will never fit, as the queue would stand still behind it."""
        if self.profile.running_at_most(sequence.prompt, sequence.output) < 1:
            raise ValueError(f"{sequence.kv_tokens} tokens of {self.profile.kv_tokens} in the KV cache")
        self.queue.append(sequence)
        if self.due is None:
            self._begin_step(now)

    def cancel(self, sequence: Sequence) -> None:
        """Forget a request whose client has gone. The step that runs takes as long as it would have."""
        if sequence in self.queue:
            self.queue.remove(sequence)
        elif sequence in self.running:
            self.running.remove(sequence)
            self.kv_used -= sequence.kv_tokens
            if sequence in self._stepping:
                self._stepping.remove(sequence)

    def end_step(self, now: int) -> list[Sequence]:
        """End the step that is due; return the requests that got a token, and begin the next step at its end."""
        stepped = self._stepping
        for sequence in stepped:
            sequence.produced += 1
        ended = [s for s in stepped if s.produced == s.output]
        if ended:
            self.running = [s for s in self.running if s.produced < s.output]
            self.kv_used -= sum(s.kv_tokens for s in ended)
        self._begin_step(now)
        return stepped

    def _begin_step(self, now: int) -> None:
        profile = self.profile
        if self.queue and len(self.running) < profile.batch and self._fits(self.queue[0]):
            sequence = self.queue.popleft()
            self.running.append(sequence)
            self.kv_used += sequence.kv_tokens
            self._stepping = [sequence]
            took = 0 if sequence.cached else profile.prefill_ms + profile.prefill_ms_per_token * sequence.prompt
        elif self.running:
            self._stepping = list(self.running)
            took = profile.a + profile.b * len(self.running)
        else:
            self._stepping = []
            self.due = None
            return
        self.due = now + int(took * MS / self.time_factor)

    def _fits(self, sequence: Sequence) -> bool:
        return self.kv_used + sequence.kv_tokens <= self.profile.kv_tokens
