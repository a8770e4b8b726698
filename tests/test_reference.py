"""The specification's reference results: all of them, each once, and the later ones marked."""

import pytest

from loadgen.matrix.reference import SPEED, THROUGHPUT
from loadgen.models.table import MODELS

ENGINES = ("transformers-4.31.0", "vllm-0.1.3", "tgi-1.0.1")
SPECIFIED = """
mpt-7b-chat        -     84.37 67.16
falcon-7b-instruct -     82.68 -
vicuna-13b-v1.3    -     41.14 -
vicuna-13b-v1.5    30.40 48.42 49.48
oasst-30b          14.89 21.80 22.05
llama2-70b-chat    9.53  17.00 18.61
"""
LATER = """
falcon-7b-instruct 25.10 -     86.71
vicuna-7b-v1.3     28.71 41.14 84.26
"""


def cells(table: str) -> dict[tuple[str, str], float]:
    rows = [line.split() for line in table.strip().splitlines()]
    return {
        (engine, model): float(figure)
        for model, *figures in rows
        for engine, figure in zip(ENGINES, figures, strict=True)
        if figure != "-"
    }


@pytest.mark.parametrize(("table", "since", "count"), [(SPECIFIED, "specification", 13), (LATER, "later", 5)])
def test_every_published_speed_is_there_once(table: str, since: str, count: int) -> None:
    expected = cells(table)
    assert len(expected) == count
    assert {key: found.value for key, found in SPEED.items() if found.since == since} == expected


def test_the_three_throughputs_are_there_and_came_later() -> None:
    model = "llama2-70b-chat"
    expected = {(engine, model): figure for engine, figure in zip(ENGINES, (0.6, 14.4, 6.0), strict=True)}
    assert {key: found.value for key, found in THROUGHPUT.items()} == expected
    assert {found.since for found in THROUGHPUT.values()} == {"later"}


def test_the_renamed_row_is_disputed_under_both_names_and_nothing_else_is() -> None:
    disputed = {model for (_, model), found in SPEED.items() if found.disputed}
    assert disputed == {"vicuna-13b-v1.3", "vicuna-7b-v1.3"}
    assert all(found.disputed for (_, model), found in SPEED.items() if model in disputed)
    assert not any(found.disputed for found in THROUGHPUT.values())


def test_every_model_with_a_reference_is_in_the_table_of_models() -> None:
    assert {model for _, model in [*SPEED, *THROUGHPUT]} == {name for name in MODELS if MODELS[name].source}
