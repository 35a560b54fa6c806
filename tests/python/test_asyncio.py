"""Pushes from event loops: awaited without holding the loop up, and answered together."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import forebay
import pytest
from conftest import LIMIT, descriptors
from forebay import Dispatcher

Opened = Callable[..., Dispatcher]


def run(body: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(body, LIMIT))


def test_an_awaited_push_becomes_a_handle(opened: Opened, tmp_path: Path) -> None:
    for d in (opened(), opened(url=tmp_path / "jobs.db")):
        double = d.handler(kind="double")(lambda n, times=2: n * times)
        d.start(2)

        async def main(d: Dispatcher = d, double: Any = double) -> None:
            first = await d.apush("double", 4, priority=3, key="one")
            second = await double.apush(5, times=3)
            third = await double.options(queue="other", headers={"a": "b"}).apush(6)
            assert (first.created, second.durability) == (True, d.durability)
            assert [h.result(LIMIT) for h in (first, second, third)] == [8, 15, 12]
            assert (third.job().queue, third.job().headers) == ("other", {"a": "b"})
            assert not (await d.apush("double", 4, key="one")).created

        run(main())


def test_a_push_that_was_made_is_awaited_in_every_way(opened: Opened) -> None:
    d = opened()

    async def main() -> None:
        made = d.apush("k", 1)
        assert isinstance(made, Awaitable)
        handle = await made
        assert await made is handle
        assert (await asyncio.wait_for(d.apush("k", 2), LIMIT)).created
        with pytest.raises(StopIteration) as end:
            next(made.__await__())
        assert end.value.value is handle
        with pytest.raises(TypeError, match="cannot create"):
            type(made)()
        # Each holds its handle and its class once, and only while it lives.
        kind, held = type(made), sys.getrefcount(handle)
        counts = [sys.getrefcount(kind)]
        more = [d.apush("k", n) for n in range(100)]
        counts.append(sys.getrefcount(kind))
        del more
        counts.append(sys.getrefcount(kind))
        assert [count - counts[0] for count in counts] == [0, 100, 0]
        del made
        left = sys.getrefcount(handle)
        assert left == held - 1

    run(main())


def test_errors_are_those_of_a_push(opened: Opened, tmp_path: Path) -> None:
    for d in (opened(capacity=1), opened(url=tmp_path / "jobs.db", capacity=1)):

        async def main(d: Dispatcher = d) -> None:
            for bad, error in (
                ({"priority": 300}, forebay.InvalidError),
                ({"colour": "red"}, TypeError),
                ({"max_attempts": 0}, forebay.InvalidError),
            ):
                with pytest.raises(error):
                    await d.apush("k", **bad)
            await d.apush("k", 1, key="one")
            with pytest.raises(forebay.QueueFull, match="is full"):
                await d.apush("k", 2)
            with pytest.raises(forebay.KeyConflict):
                await d.apush("k", 2, key="one")
            d.stop(0)
            with pytest.raises(forebay.ClosedError):
                await d.apush("k", 3)

        run(main())
    with pytest.raises(RuntimeError, match="no running event loop"):
        opened().apush("k")


def test_a_push_that_waits_for_room_holds_up_no_loop(opened: Opened) -> None:
    d = opened(capacity=1, concurrency=1)
    d.handler(kind="k")(lambda value: value)

    async def main() -> None:
        d.push("k")
        waits = asyncio.ensure_future(d.apush("k", wait=LIMIT))
        await d.apush("k", queue="other")
        assert not waits.done()
        d.start()
        assert (await waits).result(LIMIT) is None
        d.pause()
        d.push("k")
        with pytest.raises(forebay.QueueFull):
            await d.apush("k", wait=0.01)

    run(main())


def test_the_loop_goes_on_while_the_store_waits(opened: Opened, tmp_path: Path) -> None:
    """Somebody else has the file; the loop turns, and what was pushed meanwhile comes at once."""
    from test_durable import Blocker

    d = opened(url=tmp_path / "jobs.db")

    async def main() -> None:
        with Blocker(tmp_path / "jobs.db") as blocker:
            pushes = [asyncio.ensure_future(d.apush("k", n)) for n in range(100)]
            for _ in range(100):
                await asyncio.sleep(0)
            assert not any(push.done() for push in pushes)
            blocker.release()
            handles = await asyncio.gather(*pushes)
        assert {h.durability for h in handles} == {"disk"}
        assert [h.job().payload for h in handles] == list(range(100))
        assert len({h.id for h in handles}) == 100

    run(main())


def test_many_pushes_share_their_syncs(opened: Opened, tmp_path: Path) -> None:
    from test_durable import Blocker, groups_in

    d = opened(url=tmp_path / "jobs.db", write_behind="1h")

    async def main() -> None:
        before = groups_in(tmp_path / "jobs.db")
        with Blocker(tmp_path / "jobs.db") as blocker:
            pushes = [asyncio.ensure_future(d.apush("k", n)) for n in range(1000)]
            blocker.release()
            await asyncio.gather(*pushes)
        # The first goes alone, or with whoever was quick; the others gather while it waits for its sync.
        assert groups_in(tmp_path / "jobs.db") - before <= 3

    run(main())


def test_who_gives_up_waiting_has_pushed_all_the_same(opened: Opened, tmp_path: Path) -> None:
    d = opened(url=tmp_path / "jobs.db")

    async def main() -> None:
        push = asyncio.ensure_future(d.apush("k", "given up"))
        await asyncio.sleep(0)
        push.cancel()
        await d.apush("k", "later")
        assert push.cancelled()
        assert d.len() == 2

    run(main())


def test_each_loop_has_its_own_answers(opened: Opened, tmp_path: Path) -> None:
    d = opened(url=tmp_path / "jobs.db")
    seen: list[list[Any]] = []

    async def main(who: int) -> None:
        handles = await asyncio.gather(*(d.apush("k", [who, n]) for n in range(200)))
        seen.append([handle.job().payload for handle in handles])

    threads = [threading.Thread(target=run, args=(main(who),)) for who in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert sorted(seen) == [[[who, n] for n in range(200)] for who in range(3)]


def test_a_loop_that_is_closed_leaves_nothing_behind(tmp_path: Path) -> None:
    d = Dispatcher(tmp_path / "jobs.db")

    async def main(d: Dispatcher) -> None:
        await d.apush("k")
        d.apush("k")

    before = descriptors()
    for _ in range(10):
        run(main(d))
    assert descriptors() <= before + 2
    # What nobody awaited is pushed all the same, by a thread that may be slow.
    until = time.monotonic() + LIMIT
    while d.len() < 20:
        assert time.monotonic() < until, d.len()
    d.flush()
    gone = weakref.ref(d)
    del d
    gc.collect()
    assert gone() is None
