"""Where async handlers run, from the start of a dispatcher to its end."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import forebay
import pytest
import uvloop
from conftest import LIMIT, Gate, descriptors
from forebay import Dispatcher

Opened = Callable[..., Dispatcher]


async def where() -> tuple[int, int]:
    """The thread, and the loop."""
    await asyncio.sleep(0)
    return threading.get_ident(), id(asyncio.get_running_loop())


def here() -> int:
    return threading.get_ident()


class Started:
    """The worker threads that there are since it was made: those of other tests may still be about to end."""

    def __init__(self) -> None:
        self._before = set(threading.enumerate())

    def threads(self) -> list[threading.Thread]:
        """Those that run."""
        new = set(threading.enumerate()) - self._before
        return [thread for thread in new if thread.name.startswith("forebay-worker")]

    def names(self) -> list[str]:
        """How they are called."""
        return sorted(thread.name for thread in self.threads())

    def end(self) -> None:
        """Waits until none of them is left."""
        for thread in self.threads():
            thread.join(LIMIT)
        assert self.names() == []


def test_on_the_loop_of_the_caller() -> None:
    started = Started()

    async def main() -> None:
        async with Dispatcher(concurrency=2) as d:
            handler, sync = d.handler(where), d.handler(here)
            assert await handler.push() == (threading.get_ident(), id(asyncio.get_running_loop()))
            assert await sync.push() != threading.get_ident()
            assert started.names() == ["forebay-worker-0", "forebay-worker-1"]
        assert started.names() == []
        with pytest.raises(forebay.ClosedError):
            handler.push()

    asyncio.run(main())


def test_on_a_loop_of_its_own() -> None:
    started = Started()
    with Dispatcher(concurrency=2) as d:
        assert started.names() == [], "nothing is started for handlers that are not there"
        handler = d.handler(where)
        thread, loop = handler.push().result(LIMIT)
        assert (thread, loop) == handler.push().result(LIMIT)
        assert thread != threading.get_ident()
        assert started.names() == ["forebay-worker-loop"]
        d.handler(here).push().result(LIMIT)
        assert started.names() == ["forebay-worker-0", "forebay-worker-1", "forebay-worker-loop"]
    started.end()


def test_a_start_before_a_block_counts() -> None:
    """The handlers run where they were started first."""

    async def main() -> None:
        d = Dispatcher()
        handler = d.handler(where)
        d.start()
        async with d:
            thread, _ = await handler.push()
            assert thread != threading.get_ident()

    asyncio.run(main())


def test_what_waits_is_lost_with_a_warning() -> None:
    async def main() -> None:
        d = Dispatcher()
        d.handler(where)
        async with d:
            d.pause()
            d.push("where")

    with pytest.warns(RuntimeWarning, match="1 jobs still waited"):
        asyncio.run(main())


def test_an_error_in_the_block_is_the_error() -> None:
    async def main() -> None:
        d = Dispatcher()
        async with d:
            d.push("nobody")
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        asyncio.run(main())


def test_waits_do_not_hold_the_loop_up() -> None:
    async def main() -> None:
        d, gate, turns = Dispatcher(concurrency=2), Gate(), 0

        @d.handler
        def blocks() -> None:
            gate.enter()

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        async with d:
            counting = asyncio.ensure_future(count())
            blocks.push()
            await asyncio.to_thread(gate.reached)
            with pytest.raises(forebay.WaitTimeout):
                await d.adrain(0.01)
            drain = asyncio.ensure_future(d.adrain())
            before = turns
            while turns < before + 1000:
                await asyncio.sleep(0)
            assert not drain.done()
            stop = asyncio.ensure_future(d.astop())
            before = turns
            while turns < before + 1000:
                await asyncio.sleep(0)
            assert not stop.done()
            gate.open()
            assert (await stop).handed_back == 0
            with suppress(forebay.ClosedError):  # If the end was quicker than the look.
                await drain
            counting.cancel()

    asyncio.run(main())


def test_handlers_cannot_wait_for_themselves() -> None:
    async def main() -> None:
        d = Dispatcher()

        @d.handler
        async def waits(how: str) -> str:
            await asyncio.sleep(0)
            with pytest.raises(forebay.WouldDeadlock) as refused:
                await getattr(d, how)()
            return str(refused.value)

        @d.handler
        async def blocks(how: str) -> str:
            with pytest.raises(forebay.WouldDeadlock) as refused:
                getattr(d, how)()
            return str(refused.value)

        async with d:
            assert "handler" in await waits.push("adrain")
            assert "handler" in await waits.push("astop")
            assert "await adrain()" in await blocks.push("drain")
            assert "await astop()" in await blocks.push("stop")
            with pytest.raises(forebay.WouldDeadlock, match=r"await adrain\(\)"):
                d.drain()
            with pytest.raises(forebay.WouldDeadlock, match=r"await astop\(\)"):
                d.stop()

    asyncio.run(main())


def test_a_stop_from_another_thread_ends_what_runs_here() -> None:
    async def main() -> None:
        async with Dispatcher() as d:
            handler = d.handler(where)
            await handler.push()
            report = await asyncio.to_thread(d.stop)
            assert report.waiting == 0
            assert d._crew is not None
            await asyncio.wait_for(d._crew.finished, LIMIT)
            assert d._crew.carriers == 0

    asyncio.run(main())


def test_arun_ends_when_somebody_asks(opened: Opened) -> None:
    async def main() -> None:
        d = opened()

        @d.handler
        async def asks() -> None:
            d.request_stop()
            await asyncio.sleep(0)

        handle = asks.push()
        await d.arun()
        assert handle.status == "succeeded"
        again = opened()
        running = asyncio.ensure_future(again.arun())
        await asyncio.sleep(0)
        threading.Thread(target=again.request_stop).start()
        await running
        last = opened()
        running = asyncio.ensure_future(last.arun())
        await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert last.stopping

    asyncio.run(main())


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_on_any_loop(factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def main() -> None:
        d = Dispatcher(concurrency=20)

        @d.handler
        async def quick(n: int) -> int:
            return n

        @d.handler(timeout=0.01, max_attempts=1)
        async def slow() -> None:
            await asyncio.Event().wait()

        @d.handler
        async def several(n: int) -> int:
            async with asyncio.timeout(LIMIT):
                for _ in range(3):
                    await asyncio.sleep(0)
            return n

        async with d:
            handles = [kind.push(n) for n in range(200) for kind in (quick, several)]
            assert sorted(await forebay.gather(*handles)) == sorted([*range(200), *range(200)])
            with pytest.raises(forebay.JobFailed, match="timeout"):
                await slow.push()
            await d.adrain(LIMIT)

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


def test_two_loops_in_two_threads() -> None:
    seen: list[tuple[int, set[int]]] = []

    async def main() -> None:
        async with Dispatcher(concurrency=10) as d:
            handler = d.handler(where)
            threads = {(await handler.push())[0] for _ in range(100)}
            seen.append((threading.get_ident(), threads))

    threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert len({who for who, _ in seen}) == 2
    assert all(threads == {who} for who, threads in seen)


def test_one_loop_after_the_other() -> None:
    async def main() -> tuple[int, int]:
        async with Dispatcher() as d:
            return await d.handler(where).push()

    before = descriptors()
    for _ in range(5):
        asyncio.run(main())
    assert descriptors() <= before


def leave_open(d: Dispatcher, handler: Any, *args: Any) -> Any:
    """Leaves a loop in the middle of a job, and closes it."""

    async def main() -> Any:
        await d.__aenter__()
        handle = handler.push(*args)
        while handle.status != "running":
            await asyncio.sleep(0)
        return handle

    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(main())
    finally:
        loop.close()


def test_a_loop_that_is_closed_gives_its_jobs_back() -> None:
    d, ended = Dispatcher(), []

    @d.handler
    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("closed")

    handle = leave_open(d, waits)
    assert handle.status == "running"
    report = d.stop()
    assert (report.waiting, ended) == (1, ["closed"])
    assert handle.status == "queued"


def test_a_loop_that_ends_cancels_what_runs() -> None:
    """As `asyncio.run` does at its end with every task."""
    d, ended = Dispatcher(retry="constant(1h)"), []

    @d.handler
    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("closed")

    async def main() -> Any:
        await d.__aenter__()
        handle = waits.push()
        while handle.status != "running":
            await asyncio.sleep(0)
        return handle

    handle = asyncio.run(main())
    assert (handle.status, ended) == ("scheduled", ["closed"])
    assert handle.job().error.startswith("CancelledError")
    assert d.stop().waiting == 1


def test_nothing_is_left_of_what_was_given_up(recwarn: pytest.WarningsRecorder) -> None:
    class Thing:
        pass

    thing = Thing()
    d = Dispatcher()

    @d.handler
    async def holds(what: Thing) -> None:
        await asyncio.Event().wait()

    leave_open(d, holds, thing)
    seen = weakref.ref(thing)
    del thing
    d.stop(0)
    dispatcher = weakref.ref(d)
    del d, holds
    gc.collect()
    assert dispatcher() is None
    # What the core lets go is dropped when somebody comes by.
    Dispatcher().stats()
    assert seen() is None
    assert [str(warning.message) for warning in recwarn] == []


def test_a_dispatcher_that_is_dropped_ends_its_loop() -> None:
    d = Dispatcher()
    handler = d.handler(where)
    d.start()
    handler.push().result(LIMIT)
    thread = d._loop_thread
    assert thread is not None
    del d, handler
    gc.collect()
    thread.join(LIMIT)
    assert not thread.is_alive()
