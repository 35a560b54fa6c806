"""Waiting for many jobs at once: `wait` and `as_completed`, in a thread and on a loop."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import forebay
import pytest
from conftest import LIMIT, Gate
from forebay import Dispatcher, Handle

from scripts import Script

Opened = Callable[..., Dispatcher]


@pytest.fixture
def two(opened: Opened, tmp_path: Path) -> list[Dispatcher]:
    """A dispatcher in memory and one on a file, with the same handlers, started."""
    both = [opened(concurrency=2), opened(url=tmp_path / "jobs.db", concurrency=2)]
    for d in both:
        d.handler(kind="k")(lambda n: n)
        d.handler(kind="bad", max_attempts=1)(lambda _: 1 / 0)
        d.start()
    return both


def test_all_of_several_dispatchers(two: list[Dispatcher]) -> None:
    handles = [d.push("k", n) for n in range(200) for d in two]
    done, not_done = forebay.wait(handles, timeout=LIMIT)
    assert (done, not_done) == (set(handles), set())
    assert [handle.result(0) for handle in handles] == [n for n in range(200) for _ in two]
    assert forebay.wait([]) == (set(), set())
    assert forebay.wait(iter([*handles[:3], handles[0]])).done == set(handles[:3])


@pytest.mark.parametrize("mixed", [False, True])
def test_what_has_not_ended_in_time_is_told_apart(two: list[Dispatcher], mixed: bool) -> None:
    d = two[0]
    quick = d.push("k")
    never = [d.push("nobody"), *([two[1].push("nobody")] if mixed else [])]
    forebay.wait([quick], LIMIT)
    assert forebay.wait([quick, *never], timeout=0) == ({quick}, set(never))
    assert forebay.wait([quick, *never], timeout="1ms") == ({quick}, set(never))
    assert forebay.wait([quick, *never], return_when="FIRST_COMPLETED") == ({quick}, set(never))


@pytest.mark.parametrize("mixed", [False, True])
def test_the_first_one_and_the_first_that_failed(two: list[Dispatcher], gate: Gate, mixed: bool) -> None:
    d, other = two[0], two[mixed]
    d.handler(kind="slow")(lambda _: gate.enter())
    slow = d.push("slow")
    gate.reached()
    quick = other.push("k")
    assert forebay.wait([slow, quick], return_when="FIRST_COMPLETED") == ({quick}, {slow})
    bad = other.push("bad")
    found = forebay.wait([slow, quick, bad], return_when="FIRST_EXCEPTION")
    assert (bad in found.done, found.not_done) == (True, {slow})
    cancelled = other.push("nobody")
    cancelled.cancel()
    assert cancelled in forebay.wait([slow, cancelled], return_when="FIRST_EXCEPTION").done
    gate.open()
    assert forebay.wait([slow, quick], return_when="FIRST_EXCEPTION") == ({slow, quick}, set())


def test_they_come_as_they_end(two: list[Dispatcher]) -> None:
    gates = [threading.Event() for _ in range(4)]
    for d in two:
        d.handler(kind="wait")(lambda n: gates[n].wait(LIMIT) and n)
    handles = [two[n % 2].push("wait", n) for n in range(4)]
    order = [2, 1, 3, 0]
    seen = []
    gates[order[0]].set()
    for handle in forebay.as_completed([*handles, handles[0]], timeout=LIMIT):
        seen.append(handle.result(0))
        if len(seen) < 4:
            gates[order[len(seen)]].set()
    assert seen == order
    assert list(forebay.as_completed([])) == []


def test_they_come_as_they_end_on_a_loop(two: list[Dispatcher]) -> None:
    gates = [threading.Event() for _ in range(4)]
    for d in two:
        d.handler(kind="wait")(lambda n: gates[n].wait(LIMIT) and n)

    async def main() -> None:
        handles = [two[n % 2].push("wait", n) for n in range(4)]
        order, seen = [2, 1, 3, 0], []
        gates[order[0]].set()
        async for handle in forebay.as_completed([*handles, handles[0]], timeout=LIMIT):
            seen.append(await handle)
            if len(seen) < 4:
                gates[order[len(seen)]].set()
        assert seen == order
        none: list[Handle[Any]] = []
        assert [handle async for handle in forebay.as_completed(none)] == []
        never = [two[0].push("nobody"), two[1].push("nobody")]
        with pytest.raises(forebay.WaitTimeout, match="2 jobs have not ended"):
            async for _ in forebay.as_completed(never, timeout="1ms"):
                pass

    asyncio.run(asyncio.wait_for(main(), LIMIT))


def test_a_loop_that_gives_up_listens_no_longer(d: Dispatcher) -> None:
    d.handler(kind="k")(lambda n: n)
    d.start()

    async def main() -> None:
        from forebay import _loop

        async for handle in forebay.as_completed([d.push("nobody"), d.push("k", 3)]):
            assert await handle == 3
            (ear,) = _loop._ears[asyncio.get_running_loop()].values()
            assert len(ear._hearing) == 1
            break
        gc.collect()
        assert not ear._hearing

    asyncio.run(asyncio.wait_for(main(), LIMIT))


def test_time_is_up_for_the_rest(two: list[Dispatcher]) -> None:
    quick, never = two[0].push("k", 5), two[1].push("nobody")
    assert quick.result(LIMIT) == 5
    coming = forebay.as_completed([quick, never], timeout=0.05)
    assert next(coming) == quick
    with pytest.raises(forebay.WaitTimeout, match="1 job has not ended after the time to wait"):
        next(coming)
    assert isinstance(coming, forebay.AsCompleted)


def test_forgotten_jobs_have_ended(opened: Opened) -> None:
    d = opened(keep_finished=0)
    d.handler(kind="k")(lambda n: n)
    d.start()
    handles = [d.push("k", n) for n in range(3)]
    d.drain(LIMIT)
    assert forebay.wait(handles, LIMIT) == (set(handles), set())
    assert set(forebay.as_completed(handles, LIMIT)) == set(handles)

    async def main() -> None:
        kept = await forebay.gather(*handles, return_exceptions=True)
        assert {type(error) for error in kept} == {forebay.NotFoundError}
        assert {handle async for handle in forebay.as_completed(handles)} == set(handles)

    asyncio.run(asyncio.wait_for(main(), LIMIT))


@pytest.mark.parametrize("mixed", [False, True])
def test_a_stop_is_told_after_what_ended(two: list[Dispatcher], mixed: bool) -> None:
    d = two[0]
    quick, never = d.push("k", 5), d.push("nobody")
    rest = [two[1].push("k", 6)] if mixed else []
    assert quick.result(LIMIT) == 5
    coming = forebay.as_completed([quick, never, *rest], timeout=LIMIT)
    came = {next(coming)}
    stopper = threading.Thread(target=d.stop)
    stopper.start()
    came |= {next(coming) for _ in rest}
    with pytest.raises(forebay.ClosedError, match="stopped"):
        next(coming)
    stopper.join(LIMIT)
    assert came == {quick, *rest}
    with pytest.raises(forebay.ClosedError):
        forebay.wait([quick, never])
    assert forebay.wait([quick, never], return_when="FIRST_COMPLETED").done == {quick}

    async def main() -> None:
        coming = forebay.as_completed([quick, never])
        assert await anext(coming) == quick
        with pytest.raises(forebay.ClosedError):
            await anext(coming)

    asyncio.run(asyncio.wait_for(main(), LIMIT))


def test_what_is_no_wait_is_refused(d: Dispatcher) -> None:
    handle = d.push("k")
    with pytest.raises(forebay.InvalidError, match="return_when is 'SOME'; it must be one of ALL_COMPLETED"):
        forebay.wait([handle], return_when="SOME")  # type: ignore[arg-type]
    with pytest.raises(forebay.InvalidError, match="timeout is -1 seconds"):
        forebay.wait([handle], timeout=-1)
    jobs: Any = ["a job"]
    for wrong in (forebay.wait, forebay.as_completed):
        with pytest.raises(TypeError, match="'str' object"):
            wrong(jobs)
    from forebay._types import ReturnWhen
    from forebay._wait import _RETURN_WHEN

    assert get_args(ReturnWhen) == _RETURN_WHEN


def test_a_handler_waits_for_many_with_a_timeout(d: Dispatcher) -> None:
    d.handler(kind="k")(lambda n: n)

    @d.handler(max_attempts=1)
    def parent(kind: str, timeout: float | None) -> list[int]:
        children = [d.push(kind, n) for n in range(3)]
        return sorted(child.result() for child in forebay.as_completed(children, timeout))

    d.start()
    assert parent.push("k", LIMIT).result(LIMIT) == [0, 1, 2]
    with pytest.raises(forebay.JobFailed, match="WouldDeadlock: a handler must not wait without a deadline"):
        # Of jobs that have ended there is nothing to wait for.
        parent.push("nobody", None).result(LIMIT)


def test_threads_wait_for_the_same_jobs(two: list[Dispatcher]) -> None:
    handles = [d.push("k", n) for n in range(300) for d in two]
    seen: list[set[Handle[Any]]] = []
    threads = [
        threading.Thread(target=lambda: seen.append(set(forebay.as_completed(handles, LIMIT))))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert seen == [set(handles)] * 3


def test_nothing_is_left_behind(two: list[Dispatcher]) -> None:
    never = [d.push("nobody") for d in two]
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        forebay.wait(never, timeout=0.001)
        with pytest.raises(forebay.WaitTimeout):
            next(forebay.as_completed(never, timeout=0.001))
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before


@pytest.mark.parametrize("many", [1, 2])
def test_ctrl_c_ends_the_wait(many: int) -> None:
    script = f"""
        ds = [forebay.Dispatcher() for _ in range({many})]
        handles = [d.push("nobody") for d in ds]
        for wait in (forebay.wait, lambda handles: next(forebay.as_completed(handles))):
            try:
                say("waiting")
                wait(handles)
            except KeyboardInterrupt:
                say("interrupted")
    """
    with Script(script) as process:
        for _ in range(2):
            process.expect("waiting")
            process.send(signal.SIGINT)
            process.expect("interrupted")
        assert process.end() == (0, "", "")
