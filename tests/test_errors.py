"""The tree of user mistakes: what catches what, and what code may raise."""

import re

import pytest
from conftest import ROOT

from loadgen.errors import (
    ConfigFileError,
    DataError,
    EndpointError,
    EngineError,
    OptionError,
    RunError,
    UsageError,
    WorkerError,
)

SUBCLASSES = (ConfigFileError, DataError, EndpointError, EngineError, OptionError, RunError, WorkerError)


def test_these_are_all_subclasses() -> None:
    assert set(UsageError.__subclasses__()) == set(SUBCLASSES)


def test_no_code_raises_the_base_itself() -> None:
    places = [
        f"{path.relative_to(ROOT)}:{number}"
        for folder in ("loadgen", "engines")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if re.search(r"(?<!class )\bUsageError\(|raise UsageError\b", line)
    ]
    assert not places


@pytest.mark.parametrize("kind", SUBCLASSES)
def test_each_subclass_is_caught_as_a_usage_error_and_shows_text_and_log(kind: type[UsageError]) -> None:
    with pytest.raises(UsageError) as caught:
        raise kind("--port 0 is not valid.\n", "first\nsecond")
    assert str(caught.value) == "--port 0 is not valid.\\n\nfirst\nsecond"
    assert kind.__doc__


def test_a_parsers_error_gets_the_name_of_the_flag() -> None:
    with pytest.raises(OptionError) as caught, OptionError.naming("--steps 'x':"):
        raise ValueError("'x' is not a whole number.")
    assert str(caught.value) == "--steps 'x': 'x' is not a whole number."
    assert caught.value.__suppress_context__


def test_naming_leaves_other_errors_alone() -> None:
    with pytest.raises(DataError, match="already named"), OptionError.naming("--dataset:"):
        raise DataError("already named")
