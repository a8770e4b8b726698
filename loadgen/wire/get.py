"""A plain GET, for what is asked outside the measurement."""

from dataclasses import dataclass

from loadgen.clock import now
from loadgen.wire.connection import Connection
from loadgen.wire.http1 import head_bytes
from loadgen.wire.reception import Timeouts, deadline
from loadgen.wire.target import Target
from loadgen.wire.transcript import Transcript
from loadgen.wire.waiting import Waiter


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes


def get(target: Target, path: str, waiter: Waiter, *, timeout: float, api_key: str | None = None) -> Reply:
    """GET a path below the target's base path; raises WireError for every fault but an HTTP status."""
    due = deadline(now(), timeout)
    headers = {"Host": target.authority, "Accept": "application/json", "Connection": "close", "User-Agent": "loadgen"}
    if api_key:
        headers["Authorization"] = f"Bearer {api_key}"
    connection = Connection(target, waiter)
    transcript = Transcript()
    try:
        connection.open(due)
        connection.send(head_bytes("GET", target.base_path + path, headers) + b"\r\n", due)
        connection.receive(transcript, Timeouts(timeout, timeout, timeout, timeout), None)
    finally:
        connection.close()
    response = transcript.response
    return Reply(response.status, response.headers, response.body)
