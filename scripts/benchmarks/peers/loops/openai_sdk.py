"""The openai SDK, asynchronous, one client for all streams."""

import asyncio
import contextlib
from time import perf_counter

from openai import AsyncOpenAI, OpenAIError
from plan import Plan


async def main() -> None:
    """Run all streams."""
    plan = Plan.from_command_line()
    client = AsyncOpenAI(base_url=plan.url, api_key="none", max_retries=0)
    await asyncio.gather(*(_stream(plan, client, start) for start in plan.starts()))
    plan.report()


async def _stream(plan: Plan, client: AsyncOpenAI, start: float) -> None:
    await asyncio.sleep(start)
    while (request_id := plan.next_request()) is not None:
        with contextlib.suppress(OpenAIError):
            await _ask(plan, client, request_id)


async def _ask(plan: Plan, client: AsyncOpenAI, request_id: str) -> None:
    sent = perf_counter()
    stream = await client.chat.completions.create(**plan.body, extra_headers={"x-request-id": request_id})
    chunks = [perf_counter() async for chunk in stream if chunk.choices and chunk.choices[0].delta.content]
    plan.note(request_id, sent, chunks)


asyncio.run(main())
