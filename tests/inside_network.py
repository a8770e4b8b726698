"""Runs in a network of its own, which has the address 10.99.0.1: servers there, and tinyproxy before them."""

import re
import shutil
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme
from conftest import CHAT, clean_environment, free_port
from serving import Request, ScriptServer, Step, answer, serving
from support.waiting import listening

ADDRESS = "10.99.0.1"
FEW = ("--sample", "3", "--warmup", "1", "--max-tokens", "8", "--headless", "--users", "1")
PASSWORD = "proxy-password-4711"

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@contextmanager
def proxy(folder: Path, more: str = "") -> Iterator[tuple[str, Path]]:
    """Start tinyproxy; yield its address, and its log."""
    port, log = free_port(), folder / "tinyproxy.log"
    file = folder / "tinyproxy.conf"
    file.write_text(
        f'Port {port}\nListen 127.0.0.1\nTimeout 60\nMaxClients 64\nLogFile "{log}"\nLogLevel Connect\n{more}'
    )
    with subprocess.Popen(
        [shutil.which("tinyproxy") or "", "-d", "-c", str(file)], stdout=subprocess.DEVNULL
    ) as process:
        try:
            listening(port)
            yield f"127.0.0.1:{port}", log
        finally:
            process.terminate()


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def start(*arguments: str, environment: Mapping[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
        command = [
            sys.executable,
            "-m",
            "locust",
            "-f",
            str(CHAT),
            *FEW,
            "--results",
            str(tmp_path / "results"),
            *arguments,
        ]
        variables = clean_environment(**(environment or {}))
        return subprocess.run(
            command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False, timeout=120
        )

    return start


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[trustme.CA, Path]:
    made, file = trustme.CA(), tmp_path_factory.mktemp("authority") / "ca.pem"
    made.cert_pem.write_to_path(file)
    return made, file


@contextmanager
def over_tls(
    authority: trustme.CA, script: Sequence[Step], *, wants_certificate: bool = False
) -> Iterator[ScriptServer]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(ADDRESS).configure_cert(context)
    if wants_certificate:
        authority.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    with serving(script, context=context, address=ADDRESS) as server:
        yield server


@pytest.mark.parametrize("client", ["own", "openai"])
def test_a_plain_server_is_asked_through_the_proxy_and_the_report_says_so(
    run: Run, tmp_path: Path, client: str
) -> None:
    with serving(answer(3), address=ADDRESS) as server, proxy(tmp_path) as (at, log):
        done = run("--host", server.url, "--proxy", f"http://{at}", "--client", client)
    assert done.returncode in {0, 3}, done.stderr
    assert f"through the proxy {at}" in done.stdout
    assert len(server.requests) == 5
    assert log.read_text().count(f"{ADDRESS}") >= 5


def test_a_tls_server_is_asked_through_a_tunnel(run: Run, tmp_path: Path, authority: tuple[trustme.CA, Path]) -> None:
    made, file = authority
    with over_tls(made, answer(3)) as server, proxy(tmp_path) as (at, log):
        done = run("--host", server.url, "--proxy", at, environment={"SSL_CERT_FILE": str(file)})
    assert done.returncode in {0, 3}, done.stderr
    assert "CONNECT" in log.read_text()
    assert len(server.requests) == 5


def test_a_proxy_that_opens_no_tunnel_is_named(run: Run, tmp_path: Path, authority: tuple[trustme.CA, Path]) -> None:
    with over_tls(authority[0], answer(3)) as server, proxy(tmp_path, "ConnectPort 443\n") as (at, _):
        done = run("--host", server.url, "--proxy", at)
    assert done.returncode == 2
    assert f"the proxy {at} does not connect to {ADDRESS}" in done.stderr
    assert "403" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_environments_proxy_is_used_where_it_is_asked_for_and_its_password_stays_secret(
    run: Run, tmp_path: Path
) -> None:
    with serving(answer(3), address=ADDRESS) as server, proxy(tmp_path, f"BasicAuth me {PASSWORD}\n") as (at, log):
        variables = {"http_proxy": f"http://me:{PASSWORD}@{at}"}
        without = run("--host", server.url, environment=variables)
        assert "through the proxy" not in without.stdout
        assert not log.exists() or ADDRESS not in log.read_text()
        exempt = run("--host", server.url, "--proxy", "env", environment=variables | {"no_proxy": ADDRESS})
        assert "through the proxy" not in exempt.stdout
        done = run("--host", server.url, "--proxy", "env", environment=variables)
        assert f"through the proxy {at}" in done.stdout
        assert ADDRESS in log.read_text()
    for one in (without, exempt, done):
        assert one.returncode in {0, 3}, one.stderr
        assert PASSWORD not in one.stdout + one.stderr
    for path in (tmp_path / "results").rglob("*"):
        assert not path.is_file() or PASSWORD.encode() not in path.read_bytes()


def test_a_certificate_of_the_client_is_presented(run: Run, tmp_path: Path, authority: tuple[trustme.CA, Path]) -> None:
    made, file = authority
    issued = made.issue_cert("client@example.com")
    certificate, key = tmp_path / "client.pem", tmp_path / "client.key"
    certificate.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(key)
    variables = {"SSL_CERT_FILE": str(file)}
    with over_tls(made, answer(3), wants_certificate=True) as server:
        refused = run("--host", server.url, environment=variables)
        assert refused.returncode == 2
        for client in ("own", "openai"):
            presented = ("--client-cert", str(certificate), "--client-key", str(key), "--client", client)
            done = run("--host", server.url, *presented, environment=variables)
            assert done.returncode in {0, 3}, done.stderr
        wrong = run("--host", server.url, "--client-cert", str(key), environment=variables)
    assert wrong.returncode == 2
    assert f"--client-cert: {key}" in wrong.stderr
    assert "Traceback" not in refused.stderr + wrong.stderr


@contextmanager
def ports(first: int, last: int) -> Iterator[None]:
    """Let connections leave from these ports only."""
    files = [Path("/proc/sys/net/ipv4") / name for name in ("ip_local_port_range", "tcp_tw_reuse")]
    before = [file.read_text() for file in files]
    for file, text in zip(files, (f"{first} {last}", "0"), strict=True):
        file.write_text(text)
    try:
        yield
    finally:
        for file, text in zip(files, before, strict=True):
            file.write_text(text)


def test_ports_that_are_used_up_are_a_limit_of_the_client_and_no_fault_of_the_server(run: Run) -> None:
    def script(_number: int, _request: Request) -> Sequence[Step]:
        return answer(3)

    with serving(script, keep_open=True) as server, ports(40_000, 40_099):
        many = ("--host", server.url, "--users", "4", "--requests", "300", "--run-time", "60s")
        done, again = run(*many), run(*many)
    assert done.returncode == 3, done.stderr
    assert re.search(r"\d+ client_limit: no address or port is left here", done.stdout)
    assert "refused" not in done.stdout
    assert "That is a limit of this machine: --keep-alive" in done.stdout
    assert again.returncode == 2
    assert "no address or port is left here" in again.stderr
    assert "limit of this machine: --keep-alive" in again.stderr
    assert "Is the server running" not in again.stderr


def test_ipv6_is_measured_as_well(run: Run) -> None:
    def script(_number: int, _request: Request) -> Sequence[Step]:
        return answer(3)

    with serving(script, address="::1") as server:
        done = run("--host", server.url)
    assert done.returncode in {0, 3}, done.stderr
    assert len(server.requests) == 5
