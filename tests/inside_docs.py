"""Runs the examples of a document one after another in this process: ``python inside_docs.py HOST FILE...``.

Prints for each file a line of JSON: the requests that were measured, by name, and what else the test looks at.
"""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import msgspec
import pytest
from locust import LoadTestShape, User, argument_parser, events
from locust.env import Environment

from loadgen import last_result
from loadgen.run.result import RunResult

OPTIONS = {
    "stages.py": [],  # the shape ends it
    "growing.py": ["--steps", "1,2", "--step-time", "1"],
}
SCRIPTS = {"script.py", "debug.py"}
STAGES = [(6, 1), (12, 2)]
"""In place of those of the document, which take 30 s."""


def load(path: Path) -> dict[str, Any]:
    """Execute a file; its host is the one of the tests."""
    name = "__main__" if path.name in SCRIPTS else path.stem
    namespace: dict[str, Any] = {"__name__": name, "__file__": str(path)}
    exec(compile(path.read_text(), path, "exec"), namespace)
    return namespace


def defined(namespace: dict[str, Any], base: type) -> Iterator[Any]:
    """The classes that a file defines, which can be started."""
    for value in namespace.values():
        if isinstance(value, type) and issubclass(value, base) and value.__module__ == namespace["__name__"]:
            yield value


def run_users(host: str, path: Path) -> RunResult:
    """Run a locustfile to its end."""
    namespace = load(path)
    parser = argument_parser.get_parser()
    options = parser.parse_args(OPTIONS.get(path.name, ["--requests", "20"]))
    shapes = [shape() for shape in defined(namespace, LoadTestShape)]
    environment = Environment(
        user_classes=list(defined(namespace, User)),
        shape_class=shapes[0] if shapes else None,
        host=host,
        parsed_options=options,
        events=events if path.name == "listener.py" else None,
    )
    runner = environment.create_local_runner()
    if shapes:
        shapes[0].stages = STAGES
        runner.start_shape()
    else:
        runner.start(4, spawn_rate=4)
    with gevent.Timeout(120):
        while (result := last_result(environment)) is None:
            gevent.sleep(0.05)
    runner.quit()
    return result


def summary_of(result: RunResult) -> dict[str, Any]:
    """What the test looks at."""
    summary = result.summary
    return {
        "names": {name: figures.requests.started for name, figures in summary.by_name.items()},
        "requests": msgspec.to_builtins(summary.requests),
        "steps": [step.concurrency for step in summary.steps or ()],
        "checks": {check.name: check.status.value for check in summary.verdict.checks},
    }


def main(host: str, names: list[str]) -> None:
    """Run all files."""
    for path in map(Path, names):
        shown: dict[str, Any] = {}
        if path.name.startswith("test_"):
            shown["status"] = pytest.main(["-q", "-p", "no:cacheprovider", str(path)])
        elif path.name in SCRIPTS:
            load(path)
        else:
            shown = summary_of(run_users(host, path))
        print(json.dumps({"file": path.name, **shown}), flush=True)  # noqa: T201


if __name__ == "__main__":
    host, *files = sys.argv[1:]
    sys.argv[1:] = []  # run_single_user parses it
    os.environ["LOADGEN_SAMPLE"] = "20"
    main(host, files)
