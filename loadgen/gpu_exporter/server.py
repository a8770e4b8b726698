"""HTTP: ``/metrics`` gives what is kept, ``/healthz`` tells whether it is fresh."""

import socket
import socketserver
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

PLAIN = "text/plain; charset=utf-8"
READ_S = 10.0
"""How long somebody who has connected may take to ask."""

Kept = Callable[[], bytes | None]
"""Returns the metrics, None if they are too old."""


class Server(ThreadingHTTPServer):
    """Listens from its making on. ``kept`` is set before it serves."""

    kept: Kept

    def __init__(self, address: str, port: int) -> None:
        """Listen; port 0 is any that is free. Raises OSError."""
        found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        self.address_family, place = found[0][0], found[0][4]
        super().__init__((str(place[0]), int(place[1])), _Handler)

    @property
    def url(self) -> str:
        """Where the metrics are."""
        address, port = self.server_address[:2]
        host = f"[{address!s}]" if self.address_family == socket.AF_INET6 else f"{address!s}"
        return f"http://{host}:{port}/metrics"

    def server_bind(self) -> None:
        """Bind without asking for the host's name, which takes seconds where no name server answers."""
        socketserver.TCPServer.server_bind(self)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 as socketserver has it
        """Say nothing of who has gone before the answer came."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: Server
    server_version = "loadgen"
    sys_version = ""
    timeout = READ_S

    def do_GET(self) -> None:
        route = self.path.partition("?")[0]
        kept = self.server.kept()
        if route not in {"/metrics", "/healthz"}:
            self._answer(404, PLAIN, b"there is /metrics, and /healthz\n")
        elif kept is None:
            self._answer(503, PLAIN, b"the NVIDIA driver does not answer\n")
        elif route == "/metrics":
            self._answer(200, CONTENT_TYPE_PLAIN_0_0_4, kept)
        else:
            self._answer(200, PLAIN, b"ok\n")

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 as http.server names it
        """Keep no log of scrapes."""
