"""Which prompt is asked when: the warm-up, then the sample, repeated as often as needed."""

import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from loadgen.errors import OptionError
from loadgen.printable import counted
from loadgen.workload.prompts import Dataset, Prompt, content_hash


@dataclass(frozen=True, slots=True)
class Plan:
    """The prompts of a run: a sample, and warm-up prompts from outside it."""

    dataset: Dataset
    sample: tuple[Prompt, ...]
    warmup: tuple[Prompt, ...]
    seed: int

    def describe(self) -> dict[str, object]:
        """Return what the manifest keeps: where the prompts are from, which they are, and a hash of them."""
        rows = [p.row for p in self.sample]
        return {
            "name": self.dataset.name,
            "rows": len(self.dataset.prompts),
            "seed": self.seed,
            "sample_rows": rows,
            "sample_rows_sha256": hashlib.sha256(json.dumps(sorted(rows)).encode()).hexdigest(),
            "sample_sha256": content_hash(self.sample),
            "warmup_rows": [p.row for p in self.warmup],
            **({"same_text": same} if (same := self.same_text()) else {}),
            **({"ignored_fields": self.dataset.ignored} if self.dataset.ignored else {}),
            **({"targets_left_out": self.dataset.targets} if self.dataset.targets else {}),
        }

    def same_text(self) -> dict[str, int]:
        """Return the rows whose text is that of an earlier row of the sample or the warm-up, and which one that is."""
        first: dict[str, int] = {}
        for prompt in (*self.warmup, *self.sample):
            first.setdefault(prompt.text, prompt.row)
        return {str(p.row): first[p.text] for p in (*self.warmup, *self.sample) if first[p.text] != p.row}


def rounds(sample: Sequence[Prompt], seed: int, shard: int = 0, shards: int = 1) -> Iterator[tuple[Prompt, int]]:
    """Repeat a sample without end: first in the order drawn, then in a seeded order for each round.

    Yields prompts with the number of their round, 0, 1, ... A shard gets every ``shards``-th of them: the shards are
    disjoint, and together they are the same sequence whatever their number.
    """
    return islice(_rounds(sample, seed), shard, None, shards)


def _rounds(sample: Sequence[Prompt], seed: int) -> Iterator[tuple[Prompt, int]]:
    order = list(sample)
    number = 0
    while True:
        yield from ((prompt, number) for prompt in order)
        number += 1
        random.Random(f"{seed}/round/{number}").shuffle(order)


def draw(dataset: Dataset, *, sample: int, warmup: int, seed: int) -> Plan:
    """Draw ``sample`` distinct prompts and ``warmup`` others; raises OptionError if the data set has too few.

    For LIMA and seed 42 the sample is ``random.Random(42).sample(range(1000), 100)``.
    """
    candidates = dataset.single_turn
    if sample > len(candidates):
        raise OptionError(
            f"--sample {sample}: {dataset.name} has {counted(len(candidates), 'single-turn prompt')}; "
            "draw fewer, and repeat them with --requests."
        )
    if sample + warmup > len(candidates):
        raise OptionError(
            f"--warmup {warmup}: {dataset.name} has {counted(len(candidates), 'prompt')}; --sample takes {sample} and "
            f"leaves {len(candidates) - sample} for the warm-up; lower one of the two."
        )
    chosen = random.Random(seed).sample(range(len(candidates)), sample)
    rest = sorted(set(range(len(candidates))) - set(chosen))
    others = random.Random(f"{seed}/warmup").sample(rest, warmup)
    return Plan(dataset, tuple(candidates[i] for i in chosen), tuple(candidates[i] for i in others), seed)
