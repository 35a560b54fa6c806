"""Handles that an event loop awaits: one descriptor per loop and dispatcher, whatever the number of jobs."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import threading
import weakref
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import forebay
import pytest
import uvloop
from conftest import LIMIT, Gate, descriptors
from forebay import Dispatcher

Opened = Callable[..., Dispatcher]
Run = Callable[[Coroutine[Any, Any, Any]], Any]


def on_asyncio(body: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(body, LIMIT))


def on_uvloop(body: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(asyncio.wait_for(body, LIMIT))


@pytest.fixture(params=[on_asyncio, on_uvloop])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine, on each kind of loop."""
    chosen: Run = request.param
    return chosen


async def listening(d: Dispatcher, wanted: int) -> None:
    """Waits until the running loop listens for so many jobs."""
    from forebay import _loop

    def ears() -> int:
        known = _loop._ears.get(asyncio.get_running_loop())
        return sum(len(ear._hearing) for ear in known.values()) if known else 0

    while ears() != wanted:
        await asyncio.sleep(0)


def held(d: Dispatcher, gate: Gate) -> forebay.Handler[[], str]:
    """A handler whose jobs wait at the gate."""

    @d.handler
    def slow() -> str:
        gate.enter()
        return "done"

    return slow


def test_a_handle_is_awaited(d: Dispatcher, gate: Gate, run: Run) -> None:
    @d.handler
    def double(n: int) -> int:
        gate.enter()
        return 2 * n

    d.start()

    async def main() -> None:
        handle = double.push(4)
        waiters = [asyncio.ensure_future(handle.aresult()) for _ in range(3)]
        await listening(d, 3)
        gate.open()
        assert await asyncio.gather(*waiters) == [8, 8, 8]
        assert await handle == 8
        assert list(await asyncio.gather(double.push(1), double.push(2))) == [2, 4]

    run(main())


def test_what_it_raises_is_what_result_raises(d: Dispatcher, run: Run) -> None:
    d.handler(kind="bad", max_attempts=1)(lambda _: 1 / 0)

    async def main() -> None:
        bad, cancelled = d.push("bad", 1), d.push("nobody", 1)
        late = d.push("nobody", 2)
        cancelled.cancel()
        d.start()
        for _ in range(2):
            with pytest.raises(forebay.JobFailed, match="ZeroDivisionError") as failed:
                await bad
            assert (failed.value.job_id, failed.value.kind) == (bad.id, "error")
        with pytest.raises(forebay.JobCancelled):
            await cancelled
        with pytest.raises(forebay.WaitTimeout, match=r"is still queued after 0.001 seconds; wait longer"):
            await late.aresult(timeout="1ms")
        with pytest.raises(forebay.InvalidError, match="timeout is -1 seconds"):
            await late.aresult(-1)
        assert late.status == "queued"

    run(main())


def test_who_gives_up_waiting_leaves_the_job_alone(d: Dispatcher, gate: Gate, run: Run) -> None:
    slow = held(d, gate)
    d.start()

    async def main() -> None:
        handle = slow.push()
        waits, stays = asyncio.ensure_future(handle.aresult()), asyncio.ensure_future(handle.aresult())
        await listening(d, 2)
        gate.reached()
        waits.cancel()
        await listening(d, 1)
        assert (waits.cancelled(), handle.status) == (True, "running")
        gate.open()
        assert await stays == "done"

    run(main())


def test_ten_thousand_are_told_in_one_go(d: Dispatcher, run: Run) -> None:
    d.handler(kind="k")(lambda n: n)

    async def main() -> None:
        handles = [d.push("k", n) for n in range(10_000)]
        before = descriptors()
        waiters = [asyncio.ensure_future(handle.aresult()) for handle in handles]
        await listening(d, 10_000)
        assert descriptors() == before + 1
        ended = threading.Thread(target=d.drain)
        d.start()
        ended.start()
        # The loop hears of nothing meanwhile, and then of all at once.
        ended.join(LIMIT)
        calls = count_calls()
        await asyncio.wait(waiters)
        assert [waiter.result() for waiter in waiters] == list(range(10_000))
        assert len(calls) <= 2

    def count_calls() -> list[int]:
        from forebay import _loop

        (ear,) = _loop._ears[asyncio.get_running_loop()].values()
        told: list[int] = []

        class Counted:
            def outcomes(self, ends: Any = ear._ends) -> Any:
                found = ends.outcomes()
                told.append(len(found))
                return found

            def __getattr__(self, name: str, ends: Any = ear._ends) -> Any:
                return getattr(ends, name)

        ear._ends = Counted()  # type: ignore[assignment]
        return told

    run(main())


def test_two_loops_hear_of_one_job(d: Dispatcher, gate: Gate) -> None:
    @d.handler
    def slow() -> int:
        gate.enter()
        return 5

    d.start()
    handle = slow.push()
    ready = threading.Barrier(3)
    heard: list[int] = []

    async def main() -> None:
        waits = asyncio.ensure_future(handle.aresult())
        await listening(d, 1)
        await asyncio.to_thread(ready.wait, LIMIT)
        heard.append(await waits)

    threads = [threading.Thread(target=run, args=(main(),)) for run in (on_asyncio, on_uvloop)]
    for thread in threads:
        thread.start()
    ready.wait(LIMIT)
    gate.open()
    for thread in threads:
        thread.join(LIMIT)
    assert heard == [5, 5]


def test_a_loop_that_is_closed_first_leaves_nothing_behind(run: Run) -> None:
    d = Dispatcher()

    async def main(d: Dispatcher) -> weakref.ref[Any]:
        handle = d.push("nobody")
        waits = asyncio.ensure_future(handle.aresult())
        await listening(d, 1)
        del waits, handle
        return weakref.ref(asyncio.get_running_loop())

    before = descriptors()
    for _ in range(10):
        loop = run(main(d))
        gc.collect()
        assert loop() is None
    assert descriptors() <= before
    gone = weakref.ref(d)
    d.stop(0)
    del d
    gc.collect()
    assert gone() is None


def test_a_stop_ends_the_wait(opened: Opened, gate: Gate, run: Run) -> None:
    d = opened(concurrency=1)
    slow = held(d, gate)
    d.start()

    async def main() -> None:
        running = slow.push()
        gate.reached()
        waits = [asyncio.ensure_future(slow.push().aresult()) for _ in range(2)]
        ends = asyncio.ensure_future(running.aresult())
        await listening(d, 3)
        d.request_stop()
        gate.open()
        assert await ends == "done"
        for waiting in waits:
            with pytest.raises(forebay.ClosedError, match="stopped"):
                await waiting
        # The loop listens to it no more.
        from forebay import _loop

        assert not _loop._ears[asyncio.get_running_loop()]
        assert await running == "done"

    run(main())


def test_an_idle_loop_forgets_a_dispatcher_that_stops(opened: Opened, run: Run) -> None:
    async def main() -> None:
        before = descriptors()
        for _ in range(5):
            d = opened()
            d.handler(kind="k")(lambda n: n)
            d.start()
            assert await d.push("k", 7) == 7
            d.stop()
        while descriptors() > before:
            await asyncio.sleep(0)

    run(main())


def test_gather_keeps_the_order_and_mixes_dispatchers(opened: Opened, tmp_path: Path, run: Run) -> None:
    first, second = opened(concurrency=2), opened(url=tmp_path / "jobs.db", concurrency=2)
    for d in (first, second):
        d.handler(kind="k")(lambda n: n)
        d.handler(kind="bad", max_attempts=1)(lambda n: 1 / 0)

    async def main() -> None:
        handles = [d.push("k", [d is first, n]) for n in range(50) for d in (first, second)]
        late = asyncio.ensure_future(forebay.gather(*handles, handles[0]))
        await listening(first, 101)
        first.start()
        second.start()
        expected = tuple([one, n] for n in range(50) for one in (True, False))
        assert await late == (*expected, [True, 0])
        assert await forebay.gather() == ()
        bad, good = second.push("bad"), first.push("k", 1)
        with pytest.raises(forebay.JobFailed, match="ZeroDivisionError"):
            await forebay.gather(good, bad)
        kept = await forebay.gather(good, bad, return_exceptions=True)
        assert kept[0] == 1
        assert isinstance(kept[1], forebay.JobFailed)
        await listening(first, 0)

    run(main())


def test_gather_raises_at_once_and_leaves_the_others(d: Dispatcher, gate: Gate, run: Run) -> None:
    d.handler(kind="slow")(lambda _: gate.enter())
    d.handler(kind="bad", max_attempts=1)(lambda _: 1 / 0)
    d.start()

    async def main() -> None:
        slow = d.push("slow")
        gate.reached()
        with pytest.raises(forebay.JobFailed):
            await forebay.gather(slow, d.push("bad"))
        waits = asyncio.ensure_future(forebay.gather(slow, d.push("nobody")))
        await listening(d, 2)
        waits.cancel()
        await listening(d, 0)
        assert slow.status == "running"
        gate.open()
        assert await slow is None

    run(main())


def test_a_handle_outlives_its_dispatcher(run: Run) -> None:
    d = Dispatcher()
    d.handler(kind="k")(lambda n: n)
    d.start()
    done, left = d.push("k", 3), d.push("nobody")
    assert done.result(LIMIT) == 3
    d.stop()
    gone = weakref.ref(d)
    del d
    gc.collect()
    assert gone() is None

    async def main() -> None:
        assert await done == 3
        with pytest.raises(forebay.ClosedError):
            await left

    run(main())
    assert (done.status, done.result(), left.status) == ("succeeded", 3, "queued")
    with pytest.raises(forebay.ClosedError, match="stopped"):
        left.result()
    with pytest.raises(forebay.ClosedError):
        left.cancel()


def test_what_a_handle_is(d: Dispatcher) -> None:
    handle, other = d.push("k", 1, key="one"), d.push("k", 2)
    again = d.push("k", 1, key="one")
    assert (handle == again, hash(handle) == hash(again), handle == other) == (True, True, False)
    assert handle != str(handle.id)
    assert {handle, again, other} == {handle, other}
    assert repr(handle) == f"<forebay.Handle {handle.id}>"
    assert copy.copy(handle) is copy.deepcopy(handle) is handle
    with pytest.raises(TypeError, match=r"cannot be pickled: .* send\s+str\(handle.id\)"):
        pickle.dumps(handle)
    with pytest.raises(
        forebay.WaitTimeout, match=r"still queued .* wait longer, cancel it, or let explain say"
    ):
        handle.result(timeout=0)
    few = Dispatcher(keep_finished=0)
    gone = few.push("k")
    gone.cancel()
    for ask in (gone.result, gone.cancel, gone.job, lambda: gone.status):
        with pytest.raises(forebay.NotFoundError, match="is forgotten: options keep_finished and retention"):
            ask()
    few.stop()
    with pytest.raises(TypeError, match="give seconds, a timedelta, or a text"):
        handle.result(timeout=[])  # type: ignore[arg-type]
