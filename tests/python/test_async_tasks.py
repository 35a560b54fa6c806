"""What asyncio offers works in handlers as in tasks of their own."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

import forebay
import pytest
from conftest import LIMIT
from forebay import Dispatcher

name: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="nobody")


def test_many_jobs_wait_at_the_same_time() -> None:
    """As many as there are slots, and no more."""

    async def main() -> None:
        d, most, now = Dispatcher(concurrency=50), 0, 0
        everybody = asyncio.Event()

        @d.handler
        async def waits() -> None:
            nonlocal most, now
            now += 1
            most = max(most, now)
            if most == 50:
                everybody.set()
            await everybody.wait()
            now -= 1

        async with d:
            for _ in range(500):
                waits.push()
            await d.adrain(LIMIT)
            assert (most, now) == (50, 0)
            assert d._crew is not None
            assert d._crew.carriers == 50
        assert d.list(status="succeeded", limit=1).total == 500

    asyncio.run(main())


def test_one_carrier_runs_what_does_not_wait() -> None:
    async def main() -> None:
        d = Dispatcher(concurrency=50)
        tasks = set()

        @d.handler
        async def quick() -> None:
            tasks.add(asyncio.current_task())

        async with d:
            for _ in range(1000):
                quick.push()
            await d.adrain(LIMIT)
        assert len(tasks) == 1
        assert None not in tasks

    asyncio.run(main())


def test_a_task_is_the_same_to_its_handler(d: Dispatcher) -> None:
    @d.handler
    async def looks() -> bool:
        before = asyncio.current_task()
        await asyncio.sleep(0)
        await asyncio.sleep(0.001)
        return before is asyncio.current_task() and before is not None

    d.start()
    assert all(handle.result(LIMIT) for handle in [looks.push() for _ in range(20)])


def test_timeouts_and_groups(d: Dispatcher) -> None:
    @d.handler
    async def times_out() -> str:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        except TimeoutError:
            await asyncio.sleep(0)
            return "timed out"
        return "never"

    @d.handler
    async def groups(n: int) -> int:
        async def part(i: int) -> int:
            await asyncio.sleep(0)
            return i

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(part(i)) for i in range(n)]
        return sum(task.result() for task in tasks)

    @d.handler(max_attempts=1)
    async def breaks() -> None:
        async def part() -> None:
            await asyncio.sleep(0)
            raise ValueError("a part")

        async with asyncio.TaskGroup() as group:
            group.create_task(part())
            await asyncio.Event().wait()

    @d.handler
    async def waits_for() -> str:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 0.01)
        return await asyncio.wait_for(asyncio.sleep(0, "in time"), LIMIT)

    d.start()
    for _ in range(3):
        handles: list[forebay.Handle[Any]] = [times_out.push(), groups.push(10), waits_for.push()]
        assert [handle.result(LIMIT) for handle in handles] == ["timed out", 45, "in time"]
        with pytest.raises(forebay.JobFailed, match="ExceptionGroup"):
            breaks.push().result(LIMIT)


def test_what_is_awaited_fails_where_it_is_awaited(d: Dispatcher) -> None:
    @d.handler
    async def catches() -> str:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_exception, KeyError("later"))
        with pytest.raises(KeyError, match="later"):
            await future
        return "caught"

    d.start()
    assert catches.push().result(LIMIT) == "caught"


@pytest.mark.parametrize("suspends", [False, True])
def test_each_job_has_its_context(d: Dispatcher, suspends: bool) -> None:
    @d.handler
    async def sets(to: str) -> list[str]:
        before = name.get()
        name.set(to)
        if suspends:
            await asyncio.sleep(0)

        async def inner() -> str:
            return name.get()

        return [before, name.get(), await asyncio.create_task(inner())]

    d.start()
    handles = [sets.push(str(n)) for n in range(100)]
    assert [handle.result(LIMIT) for handle in handles] == [["nobody", str(n), str(n)] for n in range(100)]


def test_the_context_of_the_start_is_that_of_the_jobs() -> None:
    async def main() -> None:
        d = Dispatcher()

        @d.handler
        async def asks() -> str:
            return name.get()

        name.set("main")
        async with d:
            assert await asks.push() == "main"

    asyncio.run(main())


def test_what_a_loop_does_meanwhile_goes_on() -> None:
    """A turn ends after 64 jobs, however many there are."""

    async def main() -> None:
        d, ran, turns = Dispatcher(capacity=0), 0, 0

        @d.handler
        async def quick() -> None:
            nonlocal ran
            ran += 1

        for _ in range(6400):
            quick.push()
        async with d:
            while ran < 6400:
                before = ran
                await asyncio.sleep(0)
                assert ran - before <= 65
                turns += 1
        assert turns >= 100

    asyncio.run(main())


def test_a_loop_in_debug_mode_has_nothing_to_say(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        d = Dispatcher(concurrency=3)
        # What it has to say of a machine that is busy is not meant.
        asyncio.get_running_loop().slow_callback_duration = LIMIT

        @d.handler
        async def waits() -> None:
            await asyncio.sleep(0.001)

        async with d:
            await asyncio.gather(*(waits.push() for _ in range(10)))
            assert "forebay-carrier" in "".join(map(repr, asyncio.all_tasks()))

    asyncio.run(main(), debug=True)
    assert [record for record in caplog.records if record.levelname != "DEBUG"] == []
