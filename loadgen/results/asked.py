"""What was run: all that a reader needs to place a result, and the command that repeats it."""

import shlex
from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from loadgen.printable import counted
from loadgen.results.manifest import Manifest
from loadgen.results.summary_schema import Tokens
from loadgen.results.table import Table
from loadgen.results.text import number
from loadgen.scenario import Scenario, flag

_NOT_REPEATED = frozenset({"results", "metrics", "metrics_names", "grafana", "price_per_gpu_hour"})
"""Options that do not change what is measured."""

_PROCESSES = {"poisson": "Poisson"}
_ENDED = {"completed": "completed", "run-time": "stopped by --run-time", "interrupted": "interrupted"}
"""How a run ended, by the reason that ``run.json`` gives."""
_LOCUSTFILES = {"speed": "chat.py", "throughput": "chat.py", "rate": "rate.py"}
_SHORT_S = 120.0


def asked_table(manifest: Manifest, tokens: Tokens) -> Table:
    """Return what was run, row by row; ``tokens``: those of its answers."""
    rows = tuple((name, text) for name, text in _rows(manifest, tokens) if text)
    return Table("What was run", ("", ""), rows, words=(0, 1))


def _rows(m: Manifest, tokens: Tokens) -> Iterator[tuple[str, str]]:
    server = m.server.get("server_header")
    yield "server", f"{m.host}{f' ({server})' if server else ''}{_embedded(m)}"
    yield "engine", m.engine
    yield "model", m.model
    yield "engine runs on", _engine_machine(m)
    yield "prompts", _prompts(m)
    yield "lengths", _lengths(tokens)
    yield "load", _load(m)
    yield "answers", _answers(m)
    yield "limits (--slo)", str(m.scenario.get("slo") or "")
    yield "warm-up", _warm_up(m)
    yield "started", f"{datetime.fromisoformat(m.started_at).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    yield "duration", _duration(m)
    yield "load generator", _machine(m)
    yield "versions", ", ".join(f"{name} {version}" for name, version in m.versions.items())
    yield "command", command(m)


def _embedded(m: Manifest) -> str:
    return f", the {m.embedded}" if m.embedded else ""


def _engine_machine(m: Manifest) -> str:
    """Return the engine's hardware as far as the run knows it: only of an engine that was started here."""
    if m.launched is None:
        return (
            "not recorded: the server was not started by loadgen" if not m.embedded else "the load generator's machine"
        )
    gpus = ", ".join(gpu.name or "a GPU" for gpu in m.launched.gpus)
    return gpus or "the CPU of the load generator's machine"


def _lengths(tokens: Tokens) -> str:
    """Return the mean lengths of prompts and answers."""
    answers, output = tokens.output_per_request.n, tokens.output_per_request.mean
    parts = [] if tokens.input is None or not answers else [f"{number(tokens.input / answers, 1)} input tokens"]
    parts += [] if output is None else [f"{number(output, 1)} output tokens"]
    return f"on average {' and '.join(parts)}, warm-up left out" if parts else ""


def _prompts(m: Manifest) -> str:
    name, rows = m.dataset.get("name"), len(m.dataset.get("sample_rows", ()))
    if not name or not rows:
        return ""
    return f"{name}: {rows:,} of {m.dataset.get('rows', rows):,}, drawn with seed {m.dataset.get('seed')}"


def _options(m: Manifest) -> dict[str, Any]:
    """Return the value of every option; older folders lack newer ones."""
    return {f.name: m.scenario.get(f.name, f.default) for f in fields(Scenario)}


def _load(m: Manifest) -> str:
    s = _options(m)
    if m.arrivals is not None:
        arrivals = _PROCESSES.get(m.arrivals.process, m.arrivals.process)
        of = f"open loop: {m.arrivals.rate:,.6g} requests/s, {arrivals} arrivals"
        return f"{of}, at most {m.arrivals.max_in_flight:,} in flight, seed {s['seed']}{_extent(m)}"
    if m.steps:
        users = ", ".join(f"{step.concurrency:,}" for step in m.steps)
        ends = f"within {s['precision']}, or after --step-time ({s['step_time']:g} s) or more"
        return f"closed loop in steps of {users} users; each ends once the 95 % interval is {ends}"
    return f"closed loop: {counted(m.users, 'user')}{_extent(m)}"


def _extent(m: Manifest) -> str:
    """Say how much was planned."""
    requests = "" if m.planned_requests is None else f", {counted(m.planned_requests, 'request')}"
    return requests + ("" if m.run_time_s is None else f", {m.run_time_s:g} s")


def _answers(m: Manifest) -> str:
    s = _options(m)
    parts = [f"at most {s['max_tokens']:,} tokens"]
    if s["ignore_eos"]:
        parts = [f"exactly {s['max_tokens']:,} tokens, where the engine supports that"]
    parts.append(f"temperature {s['temperature']:g}")
    if s["top_p"] is not None:
        parts.append(f"top-p {s['top_p']:g}")
    parts.append("requested as a whole" if s["no_stream"] else "streamed")
    parts.append("connections kept" if s["keep_alive"] else "a new connection for each request")
    return ", ".join(parts)


def _warm_up(m: Manifest) -> str:
    count = _options(m)["warmup"]
    return f"{counted(count, 'request')} before the measurement, left out of all figures" if count else "none"


def _duration(m: Manifest) -> str:
    if m.ended is None:
        return "broke off"
    seconds = (datetime.fromisoformat(m.ended.at) - datetime.fromisoformat(m.started_at)).total_seconds()
    text = f"{number(seconds, 1)} s" if seconds < _SHORT_S else f"{number(seconds / 60, 1)} min"
    return f"{text}, warm-up and drain included; {m.ended.why or _ENDED[m.ended.reason]}"


def _machine(m: Manifest) -> str:
    e = m.environment
    parts = [str(e.get("cpu") or ""), f"{e['cpus']} CPUs" if e.get("cpus") else "", str(e.get("platform") or "")]
    makers = [worker for worker in m.workers if worker.number]
    if makers:
        hosts = counted(len({worker.host for worker in makers}), "host")
        parts.append(f"{len(makers):,} processes on {hosts}" if len(makers) > 1 else f"1 worker on {hosts}")
    return ", ".join(part for part in parts if part)


def command(m: Manifest) -> str:
    """Return a command that repeats the run. Secrets are not in it; a system prompt, which is not kept, is ``TEXT``."""
    words = [*_program(m), *m.user_classes, "--headless"]
    if m.arrivals is None and not m.steps:
        words += ["--users", str(m.users)]
    if m.embedded is None:
        words += ["--host", m.host]
    if m.run_time_s is not None:
        words += ["--run-time", f"{m.run_time_s:g}s"]
    forked = [worker for worker in m.workers if worker.number]
    if forked and len({worker.host for worker in m.workers}) == 1:
        words += ["--processes", str(len(forked))]
    defaults = {f.name: f.default for f in fields(Scenario)}
    for name, value in _options(m).items():
        if name not in _NOT_REPEATED and value not in (defaults[name], []):
            words += _option(name, value)
    return shlex.join(words)


def _program(m: Manifest) -> list[str]:
    """Return the command without options; one of the package's locustfiles is run by its name."""
    if m.locustfile is None:
        return ["locust", "-f", f"locustfiles/{'sweep.py' if m.steps else _LOCUSTFILES[m.kind]}"]
    path = Path(m.locustfile)
    is_shipped = path.is_absolute() and path.parent.parts[-2:] == ("loadgen", "locustfiles")
    return ["loadgen", "run", path.stem] if is_shipped else ["locust", "-f", m.locustfile]


def _option(name: str, value: object) -> list[str]:
    """Return the words that set an option."""
    if value is True:
        return [flag(name)]
    if name == "system_prompt":
        return [flag(name), "TEXT"]
    values = value if isinstance(value, list | tuple) else [value]
    return [word for one in values for word in (flag(name), f"{one:g}" if isinstance(one, float) else str(one))]
