"""A plain GET, for what is asked outside the measurement."""

from dataclasses import dataclass

from loadgen.clock import SECOND, Ns, now
from loadgen.record import Outcome
from loadgen.wire.connection import Connection, WireError
from loadgen.wire.http1 import HttpError, Response, request_bytes
from loadgen.wire.target import Target
from loadgen.wire.waiting import Waiter


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes


def get(target: Target, path: str, waiter: Waiter, *, timeout: float, api_key: str | None = None) -> Reply:
    """GET a path below the target's base path; raises WireError for every fault but an HTTP status."""
    deadline = Ns(now() + int(timeout * SECOND))
    headers = {"Host": target.authority, "Accept": "application/json", "Connection": "close", "User-Agent": "loadgen"}
    if api_key:
        headers["Authorization"] = f"Bearer {api_key}"
    connection = Connection(target, waiter)
    response = Response()
    try:
        connection.open(deadline)
        connection.send(request_bytes("GET", target.base_path + path, headers, b""), deadline)
        while not response.complete:
            read = connection.read(deadline)
            if read is None:
                raise WireError(Outcome.TOTAL_TIMEOUT, f"no answer to GET {path} within {timeout:g} s")
            if not (response.add(read.data) if read.data else response.add_end()) and not read.data:
                raise WireError(Outcome.BROKEN_STREAM, f"the connection closed in the answer to GET {path}")
    except HttpError as error:
        raise WireError(Outcome.BAD_PROTOCOL, str(error)) from None
    finally:
        connection.close()
    return Reply(response.status, response.headers, response.body)
