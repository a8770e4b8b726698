"""aiohttp, in the manner of ``vllm bench serve``: read what came, split it into messages, parse each, stamp each."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from time import perf_counter
from typing import Any

import aiohttp
from plan import Plan

_DATA = "data: "


async def main() -> None:
    """Run all streams over one pool of connections."""
    plan = Plan.from_command_line()
    connector = aiohttp.TCPConnector(limit=plan.streams, limit_per_host=plan.streams, keepalive_timeout=60)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as session:
        await asyncio.gather(*(_stream(plan, session, start) for start in plan.starts()))
    plan.report()


async def _stream(plan: Plan, session: aiohttp.ClientSession, start: float) -> None:
    await asyncio.sleep(start)
    while (request_id := plan.next_request()) is not None:
        with contextlib.suppress(aiohttp.ClientError):
            await _ask(plan, session, request_id)


async def _ask(plan: Plan, session: aiohttp.ClientSession, request_id: str) -> None:
    chunks = []
    sent = perf_counter()  # before the body is encoded and a connection is had
    headers = {"x-request-id": request_id}
    async with session.post(f"{plan.url}/chat/completions", json=plan.body, headers=headers) as response:
        response.raise_for_status()
        async for message in _messages(response):
            choices = message["choices"]
            if choices and choices[0]["delta"].get("content"):
                chunks.append(perf_counter())
    plan.note(request_id, sent, chunks)


async def _messages(response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    kept = ""
    async for data in response.content.iter_any():
        kept += data.decode()
        while "\n\n" in kept:
            message, kept = kept.split("\n\n", 1)
            content = message.strip().removeprefix(_DATA)
            if content != "[DONE]":
                yield json.loads(content)


asyncio.run(main())
