"""Why a coroutine is cancelled, and what becomes of its job then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import forebay
import pytest
from conftest import LIMIT
from forebay import Dispatcher, Job

Opened = Callable[..., Dispatcher]


class Waits:
    """A handler that waits until it is cancelled, and tells of that."""

    def __init__(self, d: Dispatcher, **options: Any) -> None:
        self.running = asyncio.Semaphore(0)
        self.cancelled: list[tuple[Any, ...]] = []
        self.reasons: list[str | None] = []
        self.handler = d.handler(kind="waits", pass_job=True, **options)(self.body)

    async def body(self, job: Job) -> None:
        self.running.release()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            self.cancelled.append(error.args)
            self.reasons.append(job.stop_reason)
            raise


def test_a_cancelled_job_is_cancelled() -> None:
    async def main() -> None:
        d = Dispatcher(concurrency=4)
        waits = Waits(d)
        async with d:
            handles = [waits.handler.push() for _ in range(3)]
            for _ in handles:
                await waits.running.acquire()
            assert handles[1].cancel() == "running"
            with pytest.raises(forebay.JobCancelled):
                await handles[1]
            assert [handle.status for handle in handles] == ["running", "cancelled", "running"]
            assert (waits.cancelled, waits.reasons) == ([("cancelled",)], ["cancelled"])
            handles[0].cancel()
            handles[2].cancel()
            await d.adrain(LIMIT)

    asyncio.run(main())


def test_a_timeout_cancels() -> None:
    async def main() -> None:
        d = Dispatcher(clock="manual")
        waits = Waits(d, timeout=10, max_attempts=1)
        async with d:
            handle = waits.handler.push()
            await waits.running.acquire()
            d.advance(11)
            with pytest.raises(forebay.JobFailed) as caught:
                await handle
            assert caught.value.kind == "timed_out"
            await d.adrain(LIMIT)
            assert waits.reasons == ["timed_out"]

    asyncio.run(main())


def test_a_lost_lease_cancels() -> None:
    async def main() -> None:
        d = Dispatcher(clock="manual", lease=10)
        waits = Waits(d, max_attempts=1)
        async with d:
            handle = waits.handler.push()
            await waits.running.acquire()
            d.advance(11)
            with pytest.raises(forebay.JobFailed):
                await handle
            await d.adrain(LIMIT)
            assert waits.reasons in (["lease_lost"], ["timed_out"])

    asyncio.run(main())


def test_a_stop_cancels_when_the_grace_has_passed() -> None:
    async def main() -> None:
        d = Dispatcher()
        waits = Waits(d)
        report = None

        @d.handler(pass_job=True)
        async def ends(job: Job) -> str:
            """Is told, and ends by itself."""
            waits.running.release()
            while job.stop_reason is None:
                await asyncio.sleep(0)
            return job.stop_reason

        async with d:
            handle, other = waits.handler.push(), ends.push()
            await waits.running.acquire()
            await waits.running.acquire()
            stop = asyncio.ensure_future(d.astop(LIMIT))
            assert await other == "stopping"
            assert waits.cancelled == []
            # The grace is over now, as if it had been shorter.
            await asyncio.to_thread(d.stop, 0)
            report = await stop
            assert (report.handed_back, report.waiting) == (1, 1)
            assert waits.reasons == ["lease_lost"]
            assert handle.status == "queued"
            assert await d.astop() == report

    with pytest.warns(RuntimeWarning, match="1 jobs still waited"):
        asyncio.run(main())


def test_a_grace_passes() -> None:
    async def main() -> None:
        d = Dispatcher()
        waits = Waits(d)
        async with d:
            handle = waits.handler.push()
            await waits.running.acquire()
            report = await d.astop(0.01)
            assert (report.handed_back, report.waiting) == (1, 1)
            assert (waits.reasons, handle.status) == (["lease_lost"], "queued")

    with pytest.warns(RuntimeWarning, match="1 jobs still waited"):
        asyncio.run(main())


def test_who_swallows_a_cancellation_answers_late() -> None:
    """The job is over; what it says counts no more, and its task takes no other job."""

    async def main() -> None:
        d = Dispatcher(concurrency=1)
        running, tasks = asyncio.Event(), []

        @d.handler
        async def stubborn() -> str:
            tasks.append(asyncio.current_task())
            running.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await asyncio.sleep(0.001)
            return "late"

        @d.handler
        async def next_one() -> str:
            tasks.append(asyncio.current_task())
            await asyncio.sleep(0.001)
            return "not hit"

        async with d:
            handle = stubborn.push()
            await running.wait()
            handle.cancel()
            with pytest.raises(forebay.JobCancelled):
                await handle
            assert await next_one.push() == "not hit"
            assert tasks[0] is not tasks[1]
            assert d._crew is not None
            assert d._crew.carriers == 1

    asyncio.run(main())


def test_who_cancels_itself_fails_and_nobody_else_does() -> None:
    async def main() -> None:
        d = Dispatcher(concurrency=2)

        @d.handler(max_attempts=1)
        async def itself(waits: bool) -> None:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            if waits:
                await asyncio.sleep(0)

        @d.handler
        async def other() -> str:
            await asyncio.sleep(0)
            return "fine"

        async with d:
            for _ in range(5):
                with pytest.raises(forebay.JobFailed, match="CancelledError"):
                    await itself.push(True)
                handles = [itself.push(False), *(other.push() for _ in range(4))]
                assert [await handle for handle in handles] == [None, "fine", "fine", "fine", "fine"]

    asyncio.run(main())


def test_a_cancellation_that_was_taken_back_leaves_the_task() -> None:
    async def main() -> None:
        d = Dispatcher(concurrency=1)
        tasks = set()

        @d.handler
        async def takes_back() -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.sleep(0)
            task.uncancel()

        async with d:
            for _ in range(3):
                await takes_back.push()
        assert len(tasks) == 1

    asyncio.run(main())


def test_a_job_that_is_cancelled_before_it_begins_never_does() -> None:
    """It was claimed at the end of a turn."""

    async def main() -> None:
        d, began = Dispatcher(concurrency=1, capacity=0), []
        handles: list[forebay.Handle[None]] = []

        @d.handler
        async def quick(n: int) -> None:
            began.append(n)
            if n == 60:
                # While a job of the next turn may have been claimed.
                asyncio.get_running_loop().call_soon(lambda: [h.cancel() for h in handles[61:70]])

        for n in range(200):
            handles.append(quick.push(n))
        async with d:
            await d.adrain(LIMIT)
        over = [n for n, handle in enumerate(handles) if handle.status == "succeeded"]
        assert began == over

    asyncio.run(main())


def test_a_task_that_somebody_else_cancels_is_replaced() -> None:
    async def main() -> None:
        d = Dispatcher(concurrency=2)
        waits = Waits(d, max_attempts=1)

        @d.handler
        async def fine() -> str:
            await asyncio.sleep(0)
            return "fine"

        async with d:
            handle = waits.handler.push()
            await waits.running.acquire()
            assert await fine.push() == "fine"
            for task in asyncio.all_tasks():
                if task.get_name() == "forebay-carrier":
                    task.cancel()
            with pytest.raises(forebay.JobFailed, match="CancelledError"):
                await handle
            assert await fine.push() == "fine"

    asyncio.run(main())
