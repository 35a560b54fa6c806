"""Threads that are slow to end are waited for by a stop, which does not wait for a handler that hangs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from weakref import ref

import pytest
from conftest import LIMIT, Gate
from forebay import Dispatcher, _exit, dispatcher
from forebay._forebay import Worker

Opened = Callable[..., Dispatcher]


def test_a_stop_waits_for_a_thread_that_is_slow(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    late = threading.Event()
    work, join = dispatcher._work, _exit.join

    def slow(worker: Worker, owner: ref[Dispatcher]) -> None:
        work(worker, owner)
        assert late.wait(LIMIT)

    def waits(threads: Iterable[threading.Thread], limit: float | None = None) -> list[str]:
        if limit is not None:
            late.set()
        return join(threads, 0.0 if limit is None else limit)

    monkeypatch.setattr(dispatcher, "_work", slow)
    monkeypatch.setattr(_exit, "join", waits)
    d = opened(concurrency=2)
    five = d.handler(kind="five")(lambda: 5)
    d.start()
    assert five.push().result(LIMIT) == 5
    d.stop()
    assert late.is_set()
    assert [thread.is_alive() for thread in d._threads] == [False, False]


def test_a_stop_does_not_wait_for_a_handler_that_hangs(opened: Opened, gate: Gate) -> None:
    d = opened(concurrency=2)
    hangs = d.handler(kind="hangs")(gate.enter)
    d.start()
    hangs.push()
    gate.reached()
    assert d.stop(0).handed_back == 1
    assert any(thread.is_alive() for thread in d._threads)
    gate.open()
    for thread in d._threads:
        thread.join(LIMIT)
        assert not thread.is_alive()
