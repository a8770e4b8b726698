"""A plain GET, for what is asked outside the measurement."""

from dataclasses import dataclass

from loadgen.clock import now
from loadgen.wire.connection import Connection
from loadgen.wire.fault import WireError
from loadgen.wire.http1 import head_bytes
from loadgen.wire.kept import LONGEST_ERROR, kept, redacted_bytes
from loadgen.wire.response_reader import Timeouts, deadline
from loadgen.wire.target import Target
from loadgen.wire.transcript import Transcript
from loadgen.wire.waiting import Waiter


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back, without the API key."""

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
    except WireError as fault:
        raise WireError(fault.outcome, kept(fault.message, api_key, LONGEST_ERROR) or "") from None
    finally:
        connection.close()
    response = transcript.response
    headers = {name: kept(value, api_key) or "" for name, value in response.headers.items()}
    return Reply(response.status, headers, redacted_bytes(response.body, api_key))
