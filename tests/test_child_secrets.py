"""Processes that a run starts: none has a secret that it does not need."""

import time
from pathlib import Path

import psutil
from cluster import Starter
from conftest import free_port

SECRETS = {
    "OPENAI_API_KEY": "sk-the-key",
    "GRAFANA_TOKEN": "glsa-the-token",
    "HF_TOKEN": "hf-the-token",
    "DATABASE_PASSWORD": "anybodys",
}


def test_neither_the_exporter_nor_the_embedded_engine_inherits_a_secret(start: Starter, tmp_path: Path) -> None:
    key_file = tmp_path / "key"
    key_file.write_text("sk-in-a-file")
    metrics = f"127.0.0.1:{free_port()}"
    variables = SECRETS | {"OPENAI_API_KEY_FILE": str(key_file), "GRAFANA_TOKEN_FILE": str(key_file)}
    run = start("--headless", "--max-tokens", "8", "--metrics", metrics, environment=variables)
    deadline = time.monotonic() + 60
    while not run.results.exists():
        assert run.process.poll() is None, run.said
        assert time.monotonic() < deadline, run.said
        time.sleep(0.05)
    children = psutil.Process(run.process.pid).children(recursive=True)
    lines = [" ".join(child.cmdline()) for child in children]
    assert any("loadgen.exporter" in line for line in lines), lines
    assert any("llamacpp_server" in line for line in lines), lines
    for child in children:
        inherited = child.environ()
        assert "PATH" in inherited
        assert not variables.keys() & inherited.keys(), child.cmdline()
        assert not set(SECRETS.values()) & set(inherited.values())
