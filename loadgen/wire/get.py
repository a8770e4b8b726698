"""A plain GET, for what is asked outside the measurement."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loadgen.clock import now
from loadgen.wire.connection import Connection
from loadgen.wire.fault import WireError
from loadgen.wire.head import request_head
from loadgen.wire.kept import LONGEST_ERROR, kept, redacted_bytes
from loadgen.wire.response_reader import Timeouts, deadline
from loadgen.wire.target import Target
from loadgen.wire.transcript import Transcript
from loadgen.wire.waiting import Waiter


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back, without secrets."""

    status: int
    headers: dict[str, str]
    body: bytes


def get(
    target: Target,
    path: str,
    waiter: Waiter,
    *,
    timeout: float,
    headers: Mapping[str, str] | None = None,
    secrets: Sequence[str] = (),
) -> Reply:
    """GET a path, with its query; raises WireError for every fault but an HTTP status."""
    due = deadline(now(), timeout)
    own = {"Host": target.authority, "Accept": "application/json", "Connection": "close", "User-Agent": "loadgen"}
    connection = Connection(target, waiter)
    transcript = Transcript()
    try:
        connection.open(due)
        connection.send(request_head("GET", target, path, own, headers or {}) + b"\r\n", due)
        connection.receive(transcript, Timeouts(timeout, timeout, timeout, timeout), None)
    except WireError as fault:
        raise WireError(fault.outcome, kept(fault.message, secrets, LONGEST_ERROR) or "") from None
    finally:
        connection.close()
    response = transcript.response
    said = {name: kept(value, secrets) or "" for name, value in response.headers.items()}
    return Reply(response.status, said, redacted_bytes(response.body, secrets))
