"""What stands between a client and an engine: nginx before the embedded engine, and proxies of a real program."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from getpass import getuser
from pathlib import Path

import pytest
from conftest import ROOT, Locust, free_port, read_in_time
from support.waiting import listening

from loadgen.launch.embedded import start_embedded
from loadgen.record import Phase

NGINX, TINYPROXY = shutil.which("nginx", path="/usr/sbin:/usr/bin"), shutil.which("tinyproxy")
FEW = ("--sample", "6", "--warmup", "1", "--max-tokens", "48", "--model", "random-llama")

CONFIGURATION = """
user {user}; daemon off; pid {folder}/pid; error_log {folder}/error.log; worker_processes 1;
events {{ worker_connections 64; }}
http {{
    access_log off; gzip_types *; gzip_min_length 1;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass {upstream}; proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_ignore_headers X-Accel-Buffering; {more}
        }}
    }}
}}
"""


@pytest.fixture(scope="module")
def engine() -> Iterator[str]:
    started = start_embedded()
    yield started.host
    started.stop()


@contextmanager
def nginx(folder: Path, upstream: str, more: str) -> Iterator[str]:
    assert NGINX is not None
    port = free_port()
    file = folder / "nginx.conf"
    file.write_text(CONFIGURATION.format(user=getuser(), folder=folder, port=port, upstream=upstream, more=more))
    with subprocess.Popen([NGINX, "-c", str(file)], stderr=subprocess.DEVNULL) as process:
        try:
            listening(port)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


@pytest.mark.skipif(NGINX is None, reason="needs nginx, which scripts/test installs")
@pytest.mark.parametrize(
    "more",
    ["proxy_buffering off;", "proxy_buffering on;", "proxy_buffering off; gzip on;"],
    ids=["unbuffered", "buffered", "gzip"],
)
def test_nginx_before_the_engine_is_measured(locust: Locust, tmp_path: Path, engine: str, more: str) -> None:
    """Its buffer holds nothing back here: nginx 1.22 sends what it has whenever nothing more comes."""
    with nginx(tmp_path, engine, more) as host:
        done = locust("--host", host, *FEW)
    done.assert_ended_well()
    measured = [r for r in done.records if r.phase is Phase.MEASURE]
    assert [(r.streamed, r.chunks) for r in measured] == [(True, 48)] * 6
    # An engine that a busy machine holds up sends tokens many at a time, and the check says so.
    check = done.checks["answers streamed as asked"]
    assert check["status"] == "ok" or check["value"].endswith("tokens came at a time")
    assert done.summary["tokens"]["output"] == 6 * 48
    assert done.manifest["server"]["server_header"].startswith("nginx")


@pytest.mark.skipif(NGINX is None, reason="needs nginx, which scripts/test installs")
def test_a_gateway_that_collects_tokens_is_reported(locust: Locust, tmp_path: Path, engine: str) -> None:
    """With a limit of its rate nginx sends a second's worth at once: the tokens in between wait in its buffer."""
    with nginx(tmp_path, engine, "proxy_buffering on; limit_rate 4k;") as host:
        done = locust("--host", host, *FEW, "--sample", "3")
    collected = [r for r in done.records if r.phase is Phase.MEASURE and r.coalesced_chunks]
    assert sum(r.coalesced_chunks or 0 for r in collected) > 3 * 48 / 2
    assert done.checks["times known exactly"]["status"] != "ok"
    check = done.checks["answers streamed as asked"]
    if read_in_time(done.records):
        assert check["status"] == "warn"
        assert re.fullmatch(r"\d+ tokens came at a time", check["value"])
        assert "a proxy before it, collects tokens before it sends them" in check["advice"]
    assert done.summary["tokens"]["output"] == 3 * 48


@pytest.mark.skipif(TINYPROXY is None, reason="needs tinyproxy, which scripts/test installs")
def test_what_is_tested_behind_a_proxy_holds(tmp_path: Path) -> None:
    """Loopback is not measured through a proxy, so there is a network with another address, of this test alone."""
    tests = f"{sys.executable} -m pytest -q -p no:cacheprovider --basetemp {tmp_path}/inside tests/inside_network.py"
    network = "ip link set lo up && ip addr add 10.99.0.1/24 dev lo"
    command = ["unshare", "-rn", "sh", "-c", f"{network} && exec {tests}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
