"""A real Prometheus: started on what a test wants scraped, and asked."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
from conftest import free_port

CONFIG = """\
global:
  scrape_interval: 1s
  scrape_timeout: 1s
scrape_configs:
"""
JOB = """\
  - job_name: {name}
    metrics_path: {path}
    static_configs:
      - targets: ["{target}"]
"""


@dataclass(frozen=True)
class Prometheus:
    """One that runs."""

    url: str

    def get(self, route: str, **parameters: Any) -> Any:
        """Return the data of an API route."""
        with urlopen(f"{self.url}/api/v1/{route}?{urlencode(parameters)}", timeout=10) as reply:
            answer = json.loads(reply.read())
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return what an expression is now: labels and values."""
        found: list[dict[str, Any]] = self.get("query", query=expression)["result"]
        return found

    def value(self, expression: str) -> float | None:
        """Return the one value of an expression, None where there is none."""
        found = self.query(expression)
        assert len(found) <= 1, found
        return float(found[0]["value"][1]) if found else None

    def wait_until_up(self, jobs: Mapping[str, str], seconds: float = 30) -> None:
        """Wait until each job has been scraped: the first scrape comes some 6 s after the start."""
        due = time.monotonic() + seconds
        while {r["metric"]["job"] for r in self.query("up == 1")} < set(jobs):
            assert time.monotonic() < due, self.query("up")
            time.sleep(0.2)


@contextmanager
def prometheus(
    folder: Path, jobs: Mapping[str, str], rules: Path | None = None, assets: Path | None = None
) -> Iterator[Prometheus]:
    """Run it until the block ends. ``jobs``: by name where to scrape, as ``HOST:PORT/path``; ``assets``: its /user/."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("needs prometheus, which scripts/test installs")
    text = CONFIG
    for name, target in jobs.items():
        address, _, path = target.partition("/")
        text += JOB.format(name=name, path=f"/{path}", target=address)
    if rules is not None:
        text += f"rule_files: [{json.dumps(str(rules))}]\n"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "prometheus.yml").write_text(text)
    port = free_port()
    command = [program, f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--enable-feature=exemplar-storage"]
    command += [] if assets is None else [f"--web.user-assets={assets}"]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            server = Prometheus(f"http://127.0.0.1:{port}")
            due = time.monotonic() + 300
            while not _is_ready(server.url):
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < due
                time.sleep(0.1)
            yield server
        finally:
            process.terminate()


def _is_ready(url: str) -> bool:
    try:
        with urlopen(f"{url}/-/ready", timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False
