"""Locust's FastHttpUser with the one loop over its response that does not wait for blocks: readline."""

import json
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import gevent
from locust import FastHttpUser, events, task
from locust.contrib.fasthttp import ResponseContextManager
from locust.env import Environment
from locust.exception import StopUser

sys.path.append(str(Path(__file__).parent))  # Locust may have been started from anywhere
from plan import Plan, add_options

_DATA, _DONE = b"data: ", b"data: [DONE]"


@events.init_command_line_parser.add_listener
def _add_options(parser: ArgumentParser, **_: object) -> None:
    add_options(parser)


@events.init.add_listener
def _plan(environment: Environment, **_: object) -> None:
    Stream.plan = Plan(environment.parsed_options)
    Stream.starts = Stream.plan.starts()


class Stream(FastHttpUser):
    """One stream."""

    plan: Plan
    starts: Iterator[float]
    ended = 0
    """Requests of all streams, failed ones too."""

    def on_start(self) -> None:
        """Wait for its turn."""
        gevent.sleep(next(self.starts))

    @task
    def ask(self) -> None:
        """Ask once; the last one to have its answer ends the run."""
        request_id = self.plan.next_request()
        if request_id is None:
            raise StopUser
        try:
            self._ask(request_id)
        finally:
            Stream.ended += 1
            if Stream.ended == self.plan.requests:
                self.plan.report()
                gevent.spawn(self.environment.runner.quit)  # in a greenlet of its own: it waits for this one to end

    def _ask(self, request_id: str) -> None:
        headers = {"Accept-Encoding": "identity", "x-request-id": request_id}
        url = "/v1/chat/completions"
        sent = perf_counter()
        with self.client.post(url, json=self.plan.body, headers=headers, stream=True, catch_response=True) as response:
            response.raise_for_status()
            chunks = list(_arrivals(response))
        self.plan.note(request_id, sent, chunks)


def _arrivals(response: ResponseContextManager) -> Iterator[float]:
    # iter_lines waits until 1 KiB has come; readline of the response below it does not.
    readline = response._response.readline  # noqa: SLF001
    while line := readline(b"\n"):
        if line.startswith(_DATA) and not line.startswith(_DONE):
            choices = json.loads(line[len(_DATA) :])["choices"]
            if choices and choices[0]["delta"].get("content"):
                yield perf_counter()
