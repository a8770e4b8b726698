"""What the users of a run do: one after another in a closed loop, or at the times of a schedule."""

from functools import partial

from loadgen.record import Outcome, RequestRecord
from loadgen.request import Request
from loadgen.run.runtime import Runtime
from loadgen.run.share import RunShare, Sender, ShareHost

AFTER_REFUSAL_S = 0.25
"""A user pauses this long after a connection that could not be opened, or a dead server would be asked thousands of
times a second."""

_NO_CONNECTION = {Outcome.REFUSED, Outcome.DNS, Outcome.TLS}

Exceptions = tuple[type[Exception], ...]


class ClosedLoopClient:
    """One user of a closed loop: it waits for an answer before its next question.

    ``flow_control``: exceptions by which listeners of the host end or move a user; they are raised on. Any other is a
    bug and ends the run.
    """

    def __init__(self, share: RunShare, host: ShareHost, runtime: Runtime, flow_control: Exceptions = ()) -> None:
        self._share, self._host, self._runtime, self._flow_control = share, host, runtime, flow_control
        self._number = share.source.register_user()
        self._sender: Sender | None = None
        self._is_unreachable = False

    def ask_next_prompt(self) -> bool:
        """Send the user's next request and wait for its end; False once there is nothing left to do."""
        if self._sender is None:
            self._sender = self._host.new_client(self._keep)
        request = None if self._sender is None else self._share.source.next_request(self._number)
        if request is None or self._sender is None:
            return False
        try:
            self._share.send(self._sender, request)
        except self._flow_control:
            raise
        except Exception as error:  # noqa: BLE001 reported once, there
            self._share.give_up(request, error)
            return False
        if self._is_unreachable:
            self._runtime.sleep(AFTER_REFUSAL_S)
        return True

    def close(self) -> None:
        """Close its connection."""
        if self._sender is not None:
            self._sender.close()

    def _keep(self, record: RequestRecord) -> None:
        self._is_unreachable = record.outcome in _NO_CONNECTION
        self._share.keep(record)


def send_on_schedule(share: RunShare, host: ShareHost, flow_control: Exceptions = ()) -> None:
    """Send a process's share of an open loop's schedule, each request in its own task; wait for the end of the run."""
    limit = share.scenario.max_in_flight
    most = len(range(share.assignment.shard, limit, share.assignment.shards))
    for request in share.source.arrivals():
        if len(share.requests) >= most:
            share.drop(request, f"{limit} requests were in flight (--max-in-flight)")
        else:
            share.requests.spawn(partial(_send_one, share, host, request, flow_control))
    share.source.end_of_schedule()
    share.source.wait_for_release()


def _send_one(share: RunShare, host: ShareHost, request: Request, flow_control: Exceptions) -> None:
    client: Sender | None = None
    try:
        client = host.new_client(share.keep)
        assert client is not None
        share.send(client, request)
    except flow_control:  # it means a user, and this task is none
        return
    except Exception as error:  # noqa: BLE001 reported once, there
        share.give_up(request, error)
    finally:
        if client is not None:
            client.close()
