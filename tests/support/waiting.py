"""Waiting for what other processes do."""

import socket
import time


def listening(port: int, address: str = "127.0.0.1", seconds: float = 60) -> None:
    """Wait until something listens at a port."""
    due = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((address, port), timeout=1).close()
        except OSError:
            assert time.monotonic() < due, f"nothing listens at {address}:{port}"
            time.sleep(0.05)
        else:
            return
