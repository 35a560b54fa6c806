"""Odd ends of `forebay.Executor` beside those of `ThreadPoolExecutor`."""

from __future__ import annotations

import concurrent.futures
import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from conftest import LIMIT
from forebay.executor import Executor, Future

EACH = pytest.mark.parametrize("pool", [ThreadPoolExecutor, Executor])
BY_HAND = pytest.mark.parametrize("kind", [concurrent.futures.Future, Future])


@BY_HAND
def test_what_has_ended_does_not_begin(kind: Any) -> None:
    ended, running = kind(), kind()
    ended.set_result(1)
    running.set_running_or_notify_cancel()
    for future in (ended, running):
        with pytest.raises(RuntimeError, match="unexpected state"):
            future.set_running_or_notify_cancel()
    assert ended.result(0) == 1


@BY_HAND
def test_who_ends_it_by_hand_hears_of_a_callback_that_leaves(kind: Any) -> None:
    def leave(future: object) -> None:
        raise KeyboardInterrupt

    ended, given, cancelled = kind(), kind(), kind()
    ended.set_result(1)
    given.add_done_callback(leave)
    cancelled.add_done_callback(leave)
    for end in (lambda: ended.add_done_callback(leave), lambda: given.set_result(2), cancelled.cancel):
        with pytest.raises(KeyboardInterrupt):
            end()
    assert (given.result(0), cancelled.cancelled()) == (2, True)


@EACH
def test_results_that_nobody_has_read_do_not_hold_the_executor(pool: Any) -> None:
    executor = pool(2)
    threads = executor._threads
    results = executor.map(abs, range(-5, 0))
    gone = weakref.ref(executor)
    del executor
    gc.collect()
    # A thread that has just ended a call may have it in its hand.
    for thread in list(threads):
        thread.join(LIMIT)
        assert not thread.is_alive()
    assert gone() is None
    assert list(results) == [5, 4, 3, 2, 1]


@EACH
def test_a_call_that_waits_for_the_shutdown_waits_for_itself(pool: Any) -> None:
    for _ in range(20):
        executor = pool(2)
        # However soon its thread begins, it is one of those that a shutdown waits for.
        with pytest.raises(RuntimeError, match="cannot join current thread"):
            executor.submit(executor.shutdown).result(LIMIT)
        executor.shutdown()
