"""Sends an open loop's requests at the times of its schedule."""

from functools import partial

from loadgen.request import Request
from loadgen.run.share import FlowControl, RunShare, Sender, ShareHost


def send_on_schedule(share: RunShare, host: ShareHost, flow_control: FlowControl) -> None:
    """Send a process's share of an open loop's schedule, each request in its own task; wait for the end of the run."""
    limit = share.scenario.max_in_flight
    most = len(range(share.assignment.shard, limit, share.assignment.shards))
    for request in share.source.arrivals():
        if len(share.requests) >= most:
            share.drop(request, f"{limit} requests were in flight (--max-in-flight)")
        else:
            share.requests.spawn(partial(_send_one, share, host, request, flow_control))
    share.source.wait_for_release()


def _send_one(share: RunShare, host: ShareHost, request: Request, flow_control: FlowControl) -> None:
    client: Sender | None = None
    try:
        client = host.new_client(share.keep)
        assert client is not None
        share.source.take_result(request, client.send(request))
    except flow_control.passed_on:  # it means a user, and this task is none
        return
    except Exception as error:  # noqa: BLE001 reported once, there
        share.give_up(request, error)
    finally:
        if client is not None:
            client.close()
