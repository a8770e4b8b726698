"""``python -m loadgen.exporter ADDR PORT NAMES``: serves what it is told on its standard input, until that ends.

It prints its address, taking the next free port where that one is taken. After the end it stays until each scraper has
had one more answer within its own timeout: Prometheus discards later ones. It waits at most two intervals of a scraper,
or 5 s if that is longer, and never more than 60 s.
"""

import errno
import sys
import threading
from collections.abc import Callable, Iterator
from typing import IO, Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric

from loadgen.exit_status import ExitStatus
from loadgen.exporter import families, otel
from loadgen.exporter.feed import Begin, unpack
from loadgen.exporter.server import Scrapers, Server
from loadgen.exporter.totals import Totals
from loadgen.scenario import LAST_PORT

TRIES = 20
"""Ports that are tried one after the other."""

LONGEST_LINGER_S = 60.0

Families = Callable[[Totals], Iterator[Metric]]

NAMES: dict[str, Families] = {"llmload": families.families, "otel": otel.families}


class Exported:
    """What is scraped: the run that was told of last. Scrapes come in threads of their own."""

    def __init__(self, families_of: Families) -> None:
        self.totals: Totals | None = None
        self.lock = threading.Lock()
        self.scrapers = Scrapers()
        self._families = families_of

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics, as prometheus-client asks for them."""
        with self.lock:
            if self.totals is not None:
                yield from list(self._families(self.totals))

    def describe(self) -> list[Metric]:
        """Tell that nothing is known beforehand: a registry would scrape to find out."""
        return []

    def listen_to(self, stream: IO[bytes]) -> None:
        """Take what the run tells, until it ends."""
        for message in unpack(stream):  # type: ignore[arg-type]  # standard input is one
            with self.lock:
                if isinstance(message, Begin):
                    self.totals = Totals(message)
                elif self.totals is not None:
                    self.totals.take(message)


def serve(address: str, port: int, registry: CollectorRegistry, scrapers: Scrapers) -> int:
    """Serve at the first free port from one on; return it. Raises OSError where there is none."""
    last = min(port + TRIES, LAST_PORT + 1)
    for number in range(port, last):
        try:
            server = Server(address, number, registry, scrapers)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or number == last - 1:
                raise
        else:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            return int(server.server_port)
    raise AssertionError("unreachable")


def main(arguments: list[str]) -> int:
    """Serve, until standard input ends."""
    address, port, names = arguments
    exported = Exported(NAMES[names])
    registry: Any = CollectorRegistry()
    registry.register(exported)
    try:
        number = serve(address, int(port), registry, exported.scrapers)
    except OSError as error:
        print(f"cannot listen at {address}:{port}: {error.strerror}", flush=True)  # noqa: T201 read by who started it
        return ExitStatus.USAGE
    print(f"http://{f'[{address}]' if ':' in address else address}:{number}", flush=True)  # noqa: T201
    exported.listen_to(sys.stdin.buffer)
    exported.scrapers.wait_for_each(LONGEST_LINGER_S)
    return ExitStatus.OK


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
