"""A server that is not meant to get a secret: it keeps every byte that it gets, and answers as a model server does."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from serving import MODELS, answer, response

KEY = "sk-stays-with-us-0123456789"


@dataclass
class Ear:
    url: str
    heard: bytearray = field(default_factory=bytearray)

    @property
    def authority(self) -> str:
        return self.url.partition("://")[2]


@contextmanager
def listening() -> Iterator[Ear]:
    """Listen on loopback until the block ends."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    ear = Ear(f"http://127.0.0.1:{listener.getsockname()[1]}")

    def hear(sock: socket.socket) -> None:
        with sock, suppress(OSError):
            request = b""
            while b"\r\n\r\n" not in request and (more := sock.recv(65536)):
                request += more
                ear.heard.extend(more)
            parts = [response(MODELS)] if request.startswith(b"GET") else [data for _, data in answer(2)]
            sock.sendall(b"".join(parts))

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=hear, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield ear
    finally:
        listener.close()
