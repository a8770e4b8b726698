"""The cheapest reader there is: waits, receives into one buffer, throws it away. A program; standard library only."""

import argparse
import select
import socket
import time
from collections import deque
from urllib.parse import urlsplit

_BUFFER_BYTES = 65_536


def main() -> None:
    """Make all requests, each over a connection of its own, which the server closes at the end of the answer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", required=True, help="base URL")
    parser.add_argument("--streams", type=int, required=True)
    parser.add_argument("--each", type=int, required=True, help="requests of a stream")
    parser.add_argument("--tokens", type=int, required=True)
    parser.add_argument("--spread", type=float, required=True, help="seconds over which the streams start")
    options = parser.parse_args()
    split = urlsplit(options.host)
    address = (str(split.hostname), int(split.port or 80))
    _read(address, options, _request(options.tokens))


def _read(address: tuple[str, int], options: argparse.Namespace, request: bytes) -> None:
    epoll = select.epoll()
    sockets: dict[int, socket.socket] = {}
    left: dict[int, int] = {}
    began = time.monotonic()
    starts = deque(began + index * options.spread / options.streams for index in range(options.streams))
    buffer = bytearray(_BUFFER_BYTES)

    def ask(requests: int) -> None:
        sock = socket.create_connection(address)
        sock.sendall(request)
        sockets[sock.fileno()], left[sock.fileno()] = sock, requests - 1
        epoll.register(sock.fileno(), select.EPOLLIN)

    while starts or sockets:
        while starts and starts[0] <= time.monotonic():
            starts.popleft()
            ask(options.each)
        patience = max(0.0, starts[0] - time.monotonic()) if starts else -1
        for fd, _ in epoll.poll(patience, 1024):
            if sockets[fd].recv_into(buffer) == 0:
                epoll.unregister(fd)
                sockets.pop(fd).close()
                if requests := left.pop(fd):
                    ask(requests)


def _request(tokens: int) -> bytes:
    body = b'{"model":"simulated","messages":[{"role":"user","content":"Why?"}],"max_tokens":%d,"stream":true}' % tokens
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
    return head % len(body) + body


if __name__ == "__main__":
    main()
