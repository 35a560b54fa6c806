"""`forebay.Executor` beside `ThreadPoolExecutor`: what any executor must do, asked of both."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import logging
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from conftest import LIMIT, Gate
from forebay.executor import Executor, Future

Pools = Callable[..., Any]


@pytest.fixture(params=[ThreadPoolExecutor, Executor])
def pool(request: pytest.FixtureRequest) -> Iterator[Pools]:
    """Opens executors of either kind, which are shut down at the end."""
    made: list[concurrent.futures.Executor] = []

    def pool(*args: Any, **options: Any) -> concurrent.futures.Executor:
        made.append(request.param(*args, **options))
        return made[-1]

    yield pool
    for executor in made:
        executor.shutdown(wait=False, cancel_futures=True)


def ended(executor: Any) -> None:
    """Waits until every thread of it has ended."""
    for thread in list(executor._threads):
        thread.join(LIMIT)
        assert not thread.is_alive()


def test_a_call_and_its_result(pool: Pools) -> None:
    with pool(2) as executor:
        future = executor.submit(lambda *args, **kwargs: (args, kwargs), 1, 2, c=3, fn=4, self=5)
        assert future.result(LIMIT) == ((1, 2), {"c": 3, "fn": 4, "self": 5})
        assert (future.done(), future.running(), future.cancelled()) == (True, False, False)
        assert future.exception() is None
        assert isinstance(future, concurrent.futures.Future)
        given = object()
        assert executor.submit(lambda x: x, given).result(LIMIT) is given
        assert executor.submit(lambda: None).result(LIMIT) is None
        assert repr(future).startswith("<Future at 0x")
        assert repr(future).endswith("state=finished returned tuple>")
        with pytest.raises(TypeError, match="missing 1 required positional argument: 'fn'"):
            executor.submit()
        with pytest.raises(TypeError, match="not callable"):
            executor.submit(7).result(LIMIT)


def test_what_it_raises_is_the_exception_itself(pool: Pools) -> None:
    error = ValueError("text")

    def inner() -> None:
        raise error

    def outer() -> None:
        try:
            inner()
        except ValueError as cause:
            raise KeyError("outer") from cause

    with pool(1) as executor:
        future = executor.submit(outer)
        with pytest.raises(KeyError, match="outer") as raised:
            future.result(LIMIT)
        assert raised.value is future.exception()
        assert raised.value.__cause__ is error
        text = "".join(traceback.format_exception(raised.value))
        assert "in inner" in text
        assert "in outer" in text
        for kind in (SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration):

            def leave(kind: type[BaseException] = kind) -> None:
                raise kind("out")

            assert type(executor.submit(leave).exception(LIMIT)) is kind
        # The thread is there all the same.
        assert executor.submit(pow, 2, 5).result(LIMIT) == 32
        assert len(executor._threads) == 1


def test_a_wait_may_be_too_short(pool: Pools, gate: Gate) -> None:
    with pool(1) as executor:
        future = executor.submit(gate.enter)
        gate.reached()
        assert (future.running(), future.done()) == (True, False)
        for timeout in (0, 0.001, -1):
            with pytest.raises(concurrent.futures.TimeoutError):
                future.result(timeout)
            with pytest.raises(TimeoutError):
                future.exception(timeout=timeout)
        gate.open()
        assert future.result() is None


def test_what_has_not_begun_can_be_cancelled(pool: Pools, gate: Gate) -> None:
    with pool(1) as executor:
        running, waiting = executor.submit(gate.enter), executor.submit(pow, 2, 5)
        gate.reached()
        told: list[Any] = []
        waiting.add_done_callback(told.append)
        assert (running.cancel(), running.cancelled()) == (False, False)
        assert (waiting.cancel(), waiting.cancel()) == (True, True)
        assert (waiting.cancelled(), waiting.done(), waiting.running()) == (True, True, False)
        assert told == [waiting]
        for ask in (waiting.result, waiting.exception):
            with pytest.raises(concurrent.futures.CancelledError):
                ask()
        gate.open()
        assert running.result(LIMIT) is None
        assert running.cancel() is False
        assert executor.submit(pow, 2, 3).result(LIMIT) == 8


def test_callbacks(pool: Pools, gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    told: list[Any] = []
    both = threading.Event()

    def raises(future: Any) -> None:
        told.append("raises")
        raise ZeroDivisionError("in a callback")

    with pool(1) as executor, caplog.at_level(logging.ERROR, "concurrent.futures"):
        future = executor.submit(gate.enter)
        future.add_done_callback(raises)
        future.add_done_callback(
            lambda future: told.append((future, future.result(), threading.current_thread()))
        )
        future.add_done_callback(lambda _: both.set())
        gate.open()
        assert both.wait(LIMIT)
        (thread,) = executor._threads
        assert told == ["raises", (future, None, thread)]
        future.add_done_callback(told.append)
        assert told[-1] is future
        future.add_done_callback(raises)
    texts = [record.getMessage() for record in caplog.records]
    assert [text.startswith("exception calling callback for <Future at") for text in texts] == [True, True]
    assert {record.exc_info[0] for record in caplog.records if record.exc_info} == {ZeroDivisionError}


def test_the_waits_of_the_standard_library(pool: Pools, gate: Gate) -> None:
    with pool(4) as executor:
        quick = executor.submit(pow, 2, 5)
        assert quick.result(LIMIT) == 32
        slow = executor.submit(gate.enter)
        found = concurrent.futures.wait([quick, slow], timeout=0.001)
        assert found == ({quick}, {slow})
        found = concurrent.futures.wait([quick, slow], return_when="FIRST_COMPLETED")
        assert found == ({quick}, {slow})
        bad = executor.submit(lambda: 1 / 0)
        found = concurrent.futures.wait([slow, bad], return_when="FIRST_EXCEPTION")
        assert found == ({bad}, {slow})
        gate.reached()
        threading.Thread(target=gate.open).start()
        found = concurrent.futures.wait([slow, bad, quick])
        assert found == ({slow, bad, quick}, set())
        many = [executor.submit(pow, 2, n) for n in range(100)]
        came = [future.result() for future in concurrent.futures.as_completed(many, LIMIT)]
        assert sorted(came) == [2**n for n in range(100)]


def test_waits_hear_of_what_is_cancelled(pool: Pools, gate: Gate) -> None:
    executor = pool(1)
    slow, waiting = executor.submit(gate.enter), executor.submit(pow, 2, 5)
    gate.reached()
    came: list[Any] = []
    listening = threading.Thread(
        target=lambda: came.extend(concurrent.futures.as_completed([waiting], LIMIT))
    )
    listening.start()
    waiting.cancel()
    gate.open()
    listening.join(LIMIT)
    assert came == [waiting]
    assert concurrent.futures.wait([slow, waiting], LIMIT) == ({slow, waiting}, set())


def test_an_event_loop_takes_it(pool: Pools, gate: Gate) -> None:
    executor = pool(2)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert await loop.run_in_executor(executor, pow, 2, 5) == 32
        with pytest.raises(ZeroDivisionError):
            await loop.run_in_executor(executor, lambda: 1 / 0)
        many = [loop.run_in_executor(executor, pow, 2, n) for n in range(500)]
        assert await asyncio.gather(*many) == [2**n for n in range(500)]
        assert await asyncio.wrap_future(executor.submit(pow, 2, 4)) == 16
        slow = [loop.run_in_executor(executor, gate.enter) for _ in range(2)]
        gate.reached()
        gate.reached()
        waiting = executor.submit(pow, 2, 5)
        wrapped = asyncio.wrap_future(waiting)
        wrapped.cancel()
        with pytest.raises(asyncio.CancelledError):
            await wrapped
        await asyncio.sleep(0)
        assert waiting.cancelled()
        gate.open()
        await asyncio.gather(*slow)

    asyncio.run(asyncio.wait_for(main(), LIMIT))


def test_map(pool: Pools, gate: Gate) -> None:
    with pool(2) as executor:
        assert list(executor.map(pow, range(100), range(100))) == [n**n for n in range(100)]
        assert list(executor.map(pow, [2, 3], [1, 2, 3], timeout=LIMIT)) == [2, 9]
        assert list(executor.map(pow, range(100), range(100), chunksize=7)) == [n**n for n in range(100)]
        results = executor.map(divmod, [1, 1, 1], [1, 0, 1])
        assert next(results) == (1, 0)
        with pytest.raises(ZeroDivisionError):
            next(results)
        with pytest.raises(StopIteration):
            next(results)
        late = executor.map(lambda n: gate.enter(), [0, 1, 2, 3], timeout=0.05)
        with pytest.raises(concurrent.futures.TimeoutError):
            next(late)
        gate.open()


def test_what_map_does_not_need_is_cancelled(pool: Pools, gate: Gate) -> None:
    calls: list[int] = []

    def call(n: int) -> int:
        calls.append(n)
        if n == 1:
            gate.enter()
        return n

    executor = pool(1)
    results = executor.map(call, range(10))
    assert next(results) == 0
    gate.reached()
    results.close()
    gate.open()
    executor.shutdown()
    assert calls == [0, 1]


def test_threads_begin_as_they_are_needed(pool: Pools, gate: Gate) -> None:
    executor = pool(5, thread_name_prefix="mill")
    threads: set[threading.Thread] = executor._threads
    assert not threads
    for _ in range(3):
        # Whoever has ended a call is idle a moment later, and takes the next one.
        assert executor.submit(pow, 2, 5).result(LIMIT) == 32
    busy = [executor.submit(gate.enter) for _ in range(12)]
    for _ in range(5):
        gate.reached()
    assert sorted(thread.name for thread in threads) == [f"mill_{n}" for n in range(5)]
    assert not any(thread.daemon for thread in threads)
    gate.open()
    concurrent.futures.wait(busy, LIMIT)
    assert len(threads) == 5


def test_idle_threads_are_used_again(pool: Pools) -> None:
    executor = pool(5)
    for _ in range(20):
        asked = threading.Event()
        executor.submit(asked.set).result(LIMIT)
        # It has nothing to do when it is told of nothing more.
        idle(executor)
    assert len(executor._threads) == 1


def idle(executor: Any) -> None:
    """Waits until a thread of it waits for calls."""
    limit = time.monotonic() + LIMIT
    while time.monotonic() < limit:
        if isinstance(executor, Executor):
            if executor._idle > 0:
                return
        elif executor._idle_semaphore.acquire(timeout=LIMIT):
            executor._idle_semaphore.release()
            return
        threading.Event().wait(0.0001)
    raise AssertionError("no thread is idle")


def test_an_initializer_begins_each_thread(pool: Pools, gate: Gate) -> None:
    local = threading.local()

    def begin(text: str) -> None:
        local.text = text

    executor = pool(2, initializer=begin, initargs=("begun",))
    slow = executor.submit(gate.enter)
    gate.reached()
    assert executor.submit(lambda: local.text).result(LIMIT) == "begun"
    gate.open()
    slow.result(LIMIT)
    with pytest.raises(TypeError, match="initializer must be a callable"):
        pool(1, initializer="no")


def test_an_initializer_that_fails_breaks_it(
    pool: Pools, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        gate.enter()
        raise ZeroDivisionError("begin")

    with caplog.at_level(logging.CRITICAL, "concurrent.futures"):
        executor = pool(1, initializer=fail)
        waiting = [executor.submit(pow, 2, n) for n in range(3)]
        gate.open()
        for future in waiting:
            with pytest.raises(concurrent.futures.BrokenExecutor, match="initializer failed"):
                future.result(LIMIT)
        ended(executor)
        with pytest.raises(concurrent.futures.thread.BrokenThreadPool):
            executor.submit(pow, 2, 5)
        executor.shutdown()
    assert [record.getMessage() for record in caplog.records] == ["Exception in initializer:"]


@pytest.mark.parametrize("number", [0, -1])
def test_there_is_one_thread_at_least(pool: Pools, number: int) -> None:
    with pytest.raises(ValueError, match="max_workers must be greater than 0"):
        pool(number)


def test_a_shutdown_makes_what_was_submitted(pool: Pools, gate: Gate) -> None:
    executor = pool(1)
    futures = [executor.submit(gate.enter), *(executor.submit(pow, 2, n) for n in range(20))]
    gate.reached()
    executor.shutdown(wait=False)
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(pow, 2, 5)
    gate.open()
    assert [future.result(LIMIT) for future in futures[1:]] == [2**n for n in range(20)]
    executor.shutdown(wait=True)
    ended(executor)
    executor.shutdown()
    pool(1).shutdown()


def test_a_shutdown_may_cancel(pool: Pools, gate: Gate) -> None:
    executor = pool(1)
    running = executor.submit(gate.enter)
    gate.reached()
    told: list[Any] = []
    waiting = [executor.submit(pow, 2, n) for n in range(50)]
    for future in waiting:
        future.add_done_callback(told.append)
    executor.shutdown(wait=False, cancel_futures=True)
    if isinstance(executor, Executor):
        # Waiters hear of it at once.
        assert concurrent.futures.wait(waiting, 0).not_done == set()
    assert all(future.cancelled() for future in waiting)
    assert sorted(map(id, told)) == sorted(map(id, waiting))
    gate.open()
    executor.shutdown()
    assert (running.result(0), running.cancelled()) == (None, False)


def test_it_is_a_context(pool: Pools, gate: Gate) -> None:
    threading.Timer(0.01, gate.open).start()
    with pool(2) as executor:
        futures = [executor.submit(gate.enter), executor.submit(pow, 2, 5)]
    assert [future.done() for future in futures] == [True, True]
    ended(executor)


def test_nobody_holds_what_has_ended(pool: Pools, gate: Gate) -> None:
    class Thing:
        pass

    def call(thing: Thing) -> Thing:
        return Thing()

    def fail(thing: Thing) -> None:
        raise ZeroDivisionError(thing)

    with pool(1) as executor:
        thing = Thing()
        gone = [weakref.ref(thing)]
        future: Any = executor.submit(call, thing)
        gone.append(weakref.ref(future.result(LIMIT)))
        failed: Any = executor.submit(fail, thing)
        assert failed.exception(LIMIT) is not None
        executor.submit(pow, 2, 5).result(LIMIT)
        futures = [weakref.ref(future), weakref.ref(failed)]
        del thing, future, failed
        executor.submit(pow, 2, 5).result(LIMIT)
        gc.collect()
        assert [ref() for ref in gone + futures] == [None] * 4


def test_an_executor_nobody_holds_makes_its_calls_and_ends(pool: Pools, gate: Gate) -> None:
    def opened() -> tuple[weakref.ref[Any], list[Any], list[threading.Thread]]:
        executor = pool(1)
        futures = [executor.submit(gate.enter), executor.submit(pow, 2, 5)]
        gate.reached()
        return weakref.ref(executor), futures, list(executor._threads)

    gone, futures, threads = opened()
    # The fixture holds them.
    closure: Any = pool
    for cell in closure.__closure__:
        if isinstance(cell.cell_contents, list):
            cell.cell_contents.clear()
    gc.collect()
    assert gone() is None
    gate.open()
    assert futures[1].result(LIMIT) == 32
    for thread in threads:
        thread.join(LIMIT)
        assert not thread.is_alive()


def test_many_threads_submit_and_cancel(pool: Pools) -> None:
    executor = pool(4)
    made: list[Any] = []

    def submit(who: int) -> None:
        for n in range(300):
            future = executor.submit(int, n)
            if n % 7 == who:
                future.cancel()
            made.append((n, future))

    threads = [threading.Thread(target=submit, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    found = concurrent.futures.wait([future for _, future in made], LIMIT)
    assert len(found.done) == 1200
    assert all(future.cancelled() or future.result(0) == n for n, future in made)


def test_a_future_by_hand() -> None:
    """As the standard library's own: for those who run calls by themselves."""
    for kind in (concurrent.futures.Future, Future):
        future: Any = kind()
        assert (future.done(), future.running(), future.cancelled()) == (False, False, False)
        assert future.set_running_or_notify_cancel() is True
        assert (future.running(), future.cancel()) == (True, False)
        future.set_result(7)
        assert (future.result(0), future.exception(0)) == (7, None)
        for again in (future.set_result, future.set_exception):
            with pytest.raises(concurrent.futures.InvalidStateError):
                again(ValueError())
        future = kind()
        told: list[Any] = []
        future.add_done_callback(told.append)
        assert (future.cancel(), future.cancel(), told) == (True, True, [future])
        assert concurrent.futures.wait([future], 0).not_done == {future}
        assert future.set_running_or_notify_cancel() is False
        assert concurrent.futures.wait([future], 0).done == {future}
        future = kind()
        error = ValueError("by hand")
        future.set_exception(error)
        assert future.exception() is error
        with pytest.raises(ValueError, match="by hand"):
            future.result()
