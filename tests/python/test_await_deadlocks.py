"""Waits that could never end, on event loops and in async handlers: they are refused."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import forebay
import pytest
from conftest import LIMIT
from forebay import Dispatcher, Handle, JobFailed, WouldDeadlock


async def limited(work: Awaitable[Any]) -> Any:
    return await asyncio.wait_for(work, LIMIT)


async def one(handle: Handle[Any]) -> Any:
    return await handle


async def first(handle: Handle[Any]) -> Any:
    async for ended in forebay.as_completed([handle]):
        return await ended


async def all_of(handle: Handle[Any]) -> Any:
    return (await forebay.gather(handle))[0]


WAYS = pytest.mark.parametrize("wait", [one, first, all_of, lambda handle: handle.aresult()])


@WAYS
def test_a_handler_that_would_take_the_last_slot_to_wait_is_refused(wait: Callable[..., Any]) -> None:
    async def main() -> None:
        async with Dispatcher(concurrency=1) as d:

            @d.handler
            async def inner() -> str:
                return "done"

            @d.handler(max_attempts=1)
            async def outer() -> Any:
                return await wait(inner.push())

            with pytest.raises(JobFailed, match="WouldDeadlock: every slot would be held"):
                await limited(outer.push())
            await d.adrain(LIMIT)

    asyncio.run(main())


@WAYS
def test_who_has_been_cancelled_waits_no_more(wait: Callable[..., Any]) -> None:
    async def main() -> None:
        async with Dispatcher(concurrency=2) as d:
            begun = asyncio.Event()

            @d.handler
            async def never() -> None:
                begun.set()
                await asyncio.Event().wait()

            @d.handler
            async def inner() -> str:
                return "done"

            @d.handler
            async def waits(handle: Any) -> Any:
                begun.set()
                return await wait(handle)

            hangs = d.push("later", delay=3600)
            for _ in range(3):
                begun.clear()
                waiting = waits.push(hangs)
                await limited(begun.wait())
                waiting.cancel()
                with pytest.raises(forebay.JobCancelled):
                    await limited(waiting)
            assert await limited(waits.push(inner.push())) == "done"
            hangs.cancel()

    asyncio.run(main())


def test_a_handler_does_not_await_itself() -> None:
    async def main() -> None:
        async with Dispatcher(concurrency=9) as d:
            own: list[Handle[Any]] = []

            @d.handler(max_attempts=1)
            async def ouroboros() -> Any:
                return await own[0]

            own.append(ouroboros.push())
            with pytest.raises(JobFailed, match="cannot wait for its own job"):
                await limited(own[0])

    asyncio.run(main())


def test_handlers_that_wait_for_what_has_ended_hold_nobody_up() -> None:
    """Many that wait, one after the other, and never more of them than there are slots but one."""

    async def main() -> None:
        async with Dispatcher(concurrency=2) as d:

            @d.handler
            async def inner(n: int) -> int:
                return n

            @d.handler(max_attempts=1)
            async def outer(n: int) -> int:
                return await inner.options(priority=1).push(n)

            d.configure_queue("outer", concurrency=1)
            handles = [outer.options(queue="outer").push(n) for n in range(200)]
            assert await limited(forebay.gather(*handles)) == tuple(range(200))

    asyncio.run(main())


@pytest.mark.parametrize("timeout", [None, LIMIT])
def test_a_result_is_not_waited_for_on_the_loop_that_makes_it(timeout: float | None) -> None:
    async def main() -> None:
        async with Dispatcher() as d:

            @d.handler
            async def work() -> str:
                await asyncio.sleep(0)
                return "done"

            @d.handler
            def plain() -> str:
                return "done"

            handle = work.push()
            with pytest.raises(WouldDeadlock, match="await the handle"):
                handle.result(timeout)
            assert await limited(handle) == "done"
            assert handle.result(0) == "done"
            # That of a thread is none of the loop's, but for the time.
            assert plain.push().result(timeout) == "done"
            assert await asyncio.to_thread(work.push().result, LIMIT) == "done"

    asyncio.run(main())
