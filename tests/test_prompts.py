"""Data sets, samples and the order in which prompts are asked."""

import gzip
import json
import statistics
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.errors import DataError, OptionError
from loadgen.workload import datasets
from loadgen.workload.plan import draw, rounds
from loadgen.workload.prompts import Dataset, Prompt, content_hash, read_file


def numbered(n: int) -> Dataset:
    return Dataset("numbers", tuple(Prompt(i, f"prompt {i}") for i in range(n)))


def test_the_samples_have_limas_schema_and_its_mix_of_sources() -> None:
    rows = [json.loads(line) for line in datasets.SAMPLES.read_text().splitlines()]
    assert len(rows) >= 150
    assert all(set(row) == {"conversations", "source"} for row in rows)
    assert all(turn.strip() for row in rows for turn in row["conversations"])
    share = {source: n / len(rows) for source, n in Counter(row["source"] for row in rows).items()}
    lima = {"stackexchange": 400, "authors": 200, "wikihow": 200, "nlp": 50, "writingprompts": 150, "multi_turn": 30}
    assert share == pytest.approx({source: n / 1030 for source, n in lima.items()}, abs=0.01)
    assert all(len(row["conversations"]) >= 4 for row in rows if row["source"] == "multi_turn")


def test_the_samples_differ_and_vary_in_length() -> None:
    texts = [p.text for p in datasets.load("samples").prompts]
    words = sorted(len(text.split()) for text in texts)
    assert len(set(texts)) == len(texts)
    assert len({" ".join(text.split()[:3]) for text in texts}) == len(texts), "a shared beginning may be cached"
    assert statistics.median(words) < 30
    assert words[-1] > 300


def test_the_lima_sample_of_seed_42_is_the_one_that_others_draw() -> None:
    lima = Dataset("LIMA", tuple(Prompt(i, f"p{i}", "multi_turn" if i >= 1000 else "") for i in range(1030)))
    described = draw(lima, sample=100, warmup=5, seed=42).describe()
    assert str(described["sample_rows_sha256"]).startswith("d41709987acf7424")
    rows = described["sample_rows"]
    assert isinstance(rows, list)
    assert max(rows) < 1000


def test_a_local_file_in_limas_schema_gives_first_turns(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"conversations": ["q1", "a1"], "source": "x"}\n\n{"prompt": "q2"}\n')
    assert [(p.row, p.text) for p in read_file(path, "p").prompts] == [(0, "q1"), (1, "q2")]


def written(rows: list[dict[str, str]], form: str) -> bytes:
    """Rows as people have them: JSON lines or one array, in an encoding, compressed or not."""
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    text = json.dumps(rows, ensure_ascii=False, indent=1) if form == "array" else lines
    encoding = {"bom": "utf-8-sig", "utf-16": "utf-16", "utf-16-be": "utf-16-be"}.get(form, "utf-8")
    data = (b"\xfe\xff" if form == "utf-16-be" else b"") + text.encode(encoding)
    return gzip.compress(data) if form == "gzip" else data


@pytest.mark.parametrize("form", ["lines", "array", "bom", "utf-16", "utf-16-be", "gzip"])
def test_a_file_is_read_in_each_form_that_people_have(tmp_path: Path, form: str) -> None:
    texts = ["q1", "separators \u2028 and \x85 within a line", "\u6a21\u578b"]
    path = tmp_path / "data"
    path.write_bytes(written([{"prompt": text} for text in texts], form))
    assert [p.text for p in read_file(path, "p").prompts] == texts


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is empty"),
        ('{"prompt": "a"}\n{"prompt": \n', "line 2: not JSON"),
        ('{"prompt": "a"}\n[1]\n', "line 2: a JSON object is needed"),
        ('{"prompt": "a"}\n\n{"question": "b"}\n', 'line 3: needs "conversations"'),
        ('{"conversations": []}\n', "line 1: needs"),
        ('{"conversations": ["  "]}\n', "line 1: needs"),
        (b"\xff\xfe{}\n", "line 1: not UTF-16 text"),
        (b'{"prompt": "a"}\n{"prompt": "\xe9"}\n', "line 2: not UTF-8 text"),
        (gzip.compress(b'{"prompt": "a"}\n' * 50, mtime=0)[:-9], "a damaged gzip file"),
        ("[]", "is empty"),
        ('[{"prompt": "a"}, {"prompt": "b"]', "not JSON"),
        ('[{"prompt": "a"}, "b"]', "item 2: a JSON object is needed"),
        ('[{"prompt": "a"}, {"question": "b"}]', 'item 2: needs "conversations"'),
        ('{"prompt": "\\ud800"}\n', "line 1: unpaired surrogate"),
    ],
)
def test_a_malformed_file_is_refused_with_its_line(tmp_path: Path, content: str | bytes, words: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=words):
        read_file(path, "p")
    with pytest.raises(DataError, match=f"--dataset: .*{words}"):
        datasets.load(str(path))


@pytest.mark.parametrize(("name", "words"), [("nope", "unknown data set"), ("/nowhere/p.jsonl", "does not exist")])
def test_an_unknown_data_set_is_refused(name: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        datasets.load(name)


def test_a_sample_larger_than_the_data_set_is_refused() -> None:
    with pytest.raises(OptionError, match="--sample 11: numbers has 10"):
        draw(numbered(10), sample=11, warmup=0, seed=1)
    with pytest.raises(OptionError, match="leaves 2 for the warm-up"):
        draw(numbered(10), sample=8, warmup=3, seed=1)


@given(st.integers(1, 60), st.integers(0, 20), st.integers())
def test_the_warmup_is_from_outside_the_sample(sample: int, warmup: int, seed: int) -> None:
    plan = draw(numbered(80), sample=sample, warmup=warmup, seed=seed)
    assert len({p.row for p in plan.sample + plan.warmup}) == sample + warmup


@given(st.integers(1, 30), st.integers())
def test_each_round_goes_through_the_whole_sample(sample: int, seed: int) -> None:
    plan = draw(numbered(40), sample=sample, warmup=0, seed=seed)
    asked = list(islice(rounds(plan.sample, plan.seed), 3 * sample))
    assert [prompt for prompt, _ in asked[:sample]] == list(plan.sample)
    for number in range(3):
        part = asked[number * sample : (number + 1) * sample]
        assert {prompt for prompt, _ in part} == set(plan.sample)
        assert {of_round for _, of_round in part} == {number}
    again = draw(numbered(40), sample=sample, warmup=0, seed=seed)
    assert asked == list(islice(rounds(again.sample, seed), 3 * sample))


def test_the_content_hash_depends_on_texts_and_order() -> None:
    a, b = Prompt(0, "a"), Prompt(1, "b")
    assert content_hash([a, b]) == content_hash([Prompt(7, "a"), Prompt(8, "b")])
    assert len({content_hash(x) for x in ([a, b], [b, a], [Prompt(0, 'a","b')], [])}) == 4
