"""Serves ``/metrics``, and notes who scrapes it."""

import math
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

PATH = "/metrics"

TIMEOUT = "HTTP_X_PROMETHEUS_SCRAPE_TIMEOUT_SECONDS"
"""Prometheus sends this header, and so do those that do as it does; a person who looks does not."""

PATIENCE_S = 5.0
"""A scraper may be late by this, on a machine that is busy."""

StartResponse = Callable[..., Any]


@dataclass
class Scrapers:
    """Who comes again and again."""

    last: dict[str, float] = field(default_factory=dict)
    """When each came last, monotonic s."""
    interval: dict[str, float] = field(default_factory=dict)
    """Time between its last two scrapes, s."""
    answered: dict[str, float] = field(default_factory=dict)
    """When each came last and had its answer before its own timeout, monotonic s."""

    def came(self, environ: dict[str, Any]) -> Callable[[], None]:
        """Note the arrival of a scrape; return a function to call once its answer has been sent."""
        who = f"{environ.get('REMOTE_ADDR')} {environ.get('HTTP_USER_AGENT')}"
        at, before = time.monotonic(), self.last.get(who)
        self.last[who] = at
        if before is not None:
            self.interval[who] = at - before
        timeout_s = _seconds(environ[TIMEOUT])

        def answered() -> None:
            if time.monotonic() - at < timeout_s:
                self.answered[who] = at

        return answered

    def wait_for_each(self, longest_s: float) -> None:
        """Wait until each has come and been answered once more.

        Waits at most two of its intervals or :data:`PATIENCE_S`, whichever is longer; ``longest_s`` bounds both.
        """
        now = time.monotonic()
        waits = {who: max(2 * interval, PATIENCE_S) for who, interval in dict(self.interval).items()}
        due = {who: min(self.last[who] + wait, now + longest_s) for who, wait in waits.items()}
        while any(self.answered.get(who, 0.0) < now and time.monotonic() < at for who, at in due.items()):
            time.sleep(0.05)


def _seconds(text: str) -> float:
    """Return a scraper's timeout, s; infinity where its header is not a number."""
    try:
        seconds = float(text)
    except ValueError:
        return math.inf
    return math.inf if math.isnan(seconds) else seconds


class _Answer:
    """A response body that calls ``sent`` after its last part; with its length wsgiref sets Content-Length."""

    def __init__(self, parts: Sequence[bytes], sent: Callable[[], None]) -> None:
        self._parts = parts
        self._sent = sent

    def __len__(self) -> int:
        return len(self._parts)

    def __iter__(self) -> Iterator[bytes]:
        yield from self._parts  # wsgiref asks for the next part after it has sent this one
        self._sent()


def application(registry: CollectorRegistry, scrapers: Scrapers) -> Callable[..., Iterable[bytes]]:
    """Return what answers requests."""
    metrics: Callable[..., Iterable[bytes]] = make_wsgi_app(registry)

    def answer(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] != PATH:
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [f"metrics are at {PATH}\n".encode()]
        if TIMEOUT not in environ:
            return metrics(environ, start_response)
        answered = scrapers.came(environ)
        return _Answer(list(metrics(environ, start_response)), answered)

    return answer


class Server(ThreadingMixIn, WSGIServer):
    """A thread for each request; raises OSError where it cannot listen."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: str, port: int, registry: CollectorRegistry, scrapers: Scrapers) -> None:
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        super().__init__((address, port), _Quiet)
        self.set_app(application(registry, scrapers))


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""
