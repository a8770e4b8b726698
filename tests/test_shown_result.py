"""What the locust command shows: when its run will end."""

import re
from collections.abc import Iterator

import pytest
from conftest import Locust
from serving import ScriptServer, answer, serving

FEW = ("--sample", "4", "--warmup", "1", "--max-tokens", "8")


@pytest.fixture
def server() -> Iterator[ScriptServer]:
    with serving(answer(3)) as started:
        yield started


def test_the_log_says_when_the_run_ends_and_never_that_only_ctrl_c_ends_it(
    locust: Locust, server: ScriptServer
) -> None:
    done = locust("--host", server.url, *FEW, "--requests", "5")
    assert len(re.findall(r"The run ends after 5 requests \(--requests\)\.$", done.err, re.MULTILINE)) == 1
    assert "No run time limit" not in done.err
