"""Over HTTPS, beside the same over plain HTTP: how exact first tokens and gaps are."""

import argparse
import tempfile
from functools import partial
from pathlib import Path

from benchmarks import server
from benchmarks.figures import Figures, Section, p99, spread
from benchmarks.ours import Setup, observe
from benchmarks.peers.peer import Load
from benchmarks.rounds import run_rounds
from loadgen.measure.truth import errors

_EACH = 8
"""Requests of a stream."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare what may be varied."""
    parser.add_argument("--streams", type=int, default=64, help="number of concurrent streams")


def measure(options: argparse.Namespace) -> Section:
    """Run both cases."""
    with tempfile.TemporaryDirectory(prefix="bench-tls-") as folder:
        certificate = _certificate(Path(folder))
        cases = {
            "HTTP": partial(_round, options.streams, Setup("1")),
            "HTTPS": partial(_round, options.streams, Setup("1", certificate=certificate)),
        }
        found, notes = run_rounds(cases, options.rounds)
    return Section(f"{options.streams} streams, TTFT 50 ms, 128 tokens 10 ms apart", found, notes)


def _certificate(folder: Path) -> dict[str, str]:
    """Write an authority, and a certificate of it for loopback; return the files."""
    import trustme

    files = {name: str(folder / name) for name in ("tls_cert", "tls_key", "authority")}
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", "localhost")
    authority.cert_pem.write_to_path(files["authority"])
    issued.private_key_pem.write_to_path(files["tls_key"])
    chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
    Path(files["tls_cert"]).write_bytes(chain)
    return files


def _round(streams: int, setup: Setup) -> Figures:
    run = observe(Load(streams, requests=_EACH * streams), setup)
    off = errors(run.ok, run.truths)
    return {
        **spread("TTFT error", off.ttft),
        **p99("ITL error", off.itl),
        **p99("widest interval of a request", off.intervals),
        "requests outside an interval": off.outside,
        **server.figures(run),
    }
