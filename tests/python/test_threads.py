"""Attaching, detaching and the end of objects: counted, not timed."""

from __future__ import annotations

import gc
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import forebay
import pytest
from conftest import LIMIT, Gate
from forebay import Dispatcher

Opened = Callable[..., Dispatcher]


def counts(d: Dispatcher) -> dict[str, int]:
    own: dict[str, int] = d.stats()["python"]
    return own


def test_workers_stay_attached_while_there_is_work(opened: Opened) -> None:
    d = opened(concurrency=4)
    noop = d.handler(kind="noop")(lambda n: None)
    for n in range(10_000):
        noop.push(n)
    begin = time.monotonic()
    d.start()
    d.drain(LIMIT)
    # One per 64 jobs, or per 5 ms of each worker where the machine lets it run fewer in that time, and a few
    # to begin and to end with.
    turns = 4 * (time.monotonic() - begin) / 0.005
    assert counts(d)["attaches"] <= 10_000 / 64 + turns + 20


def test_a_push_does_not_detach(opened: Opened) -> None:
    d = opened(concurrency=2)
    noop = d.handler(kind="noop")(lambda n: None)
    d.start()
    d.drain(LIMIT)
    before = counts(d)["detaches"]
    for n in range(10_000):
        noop.push(n)
        d.push("noop", n)
    d.push_many([("noop", n) for n in range(1000)])
    assert counts(d)["detaches"] == before
    d.drain(LIMIT)


def test_idle_workers_sleep(d: Dispatcher) -> None:
    d.start()
    d.handler(kind="noop")(lambda: None).push().result(LIMIT)
    d.drain(LIMIT)
    before = counts(d)["attaches"]
    assert not threading.Event().wait(0.2)
    assert counts(d)["attaches"] - before <= 4, "no polling"


def test_a_handler_that_blocks_keeps_no_other_job_waiting(opened: Opened, gate: Gate) -> None:
    d = opened(concurrency=2)
    d.handler(kind="block")(gate.enter)
    quick = d.handler(kind="quick")(lambda n: n)
    d.start()
    d.handler(kind="block")(gate.enter).push()
    gate.reached()
    handles = [quick.push(n) for n in range(1000)]
    assert [h.result(LIMIT) for h in handles] == list(range(1000))


class Pushes:
    """Pushes a job when it dies."""

    dead = threading.Semaphore(0)

    def __init__(self, d: Dispatcher) -> None:
        self.d = d

    def __del__(self) -> None:
        self.d.push("noop", None)
        self.dead.release()


def test_a_destructor_may_push(opened: Opened) -> None:
    d = opened(concurrency=2, keep_finished=0)
    d.handler(kind="noop")(lambda value: None)
    for _ in range(1000):
        d.push("noop", Pushes(d))
    for _ in range(100):
        d.push("noop", Pushes(d), queue="purged", deadline=0)
    d.start()
    d.drain(LIMIT)
    d.purge("purged")
    # Other threads may be in the midst of it.
    for _ in range(1100):
        assert Pushes.dead.acquire(timeout=LIMIT)
    d.drain(LIMIT)
    assert d.stats()["queues"]["default"]["pushed"] == 2100


def test_results_and_payloads_end_with_their_jobs(opened: Opened) -> None:
    class Thing:
        pass

    d = opened(concurrency=1, keep_finished=0)
    echo = d.handler(kind="echo")(lambda thing: thing)
    d.start()
    things = [Thing() for _ in range(50)]
    references = [weakref.ref(thing) for thing in things]
    for thing in things:
        echo.push(thing)
    del things, thing
    d.drain(LIMIT)
    d.stats()
    assert [r() for r in references] == [None] * 50


def ended(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join(LIMIT)
        assert not thread.is_alive()


def test_a_dispatcher_in_a_cycle_is_collected() -> None:
    threads: list[threading.Thread] = []

    def cycle() -> weakref.ref[Dispatcher]:
        d = Dispatcher(concurrency=2)

        @d.handler
        def loops() -> bool:
            return bool(d and loops)

        d.start()
        threads.extend(d._threads)
        assert loops.push().result(LIMIT) is True
        d.drain(LIMIT)
        return weakref.ref(d)

    reference = cycle()
    assert len(threads) == 2
    gc.collect()
    assert reference() is None
    ended(threads)


def test_dropping_a_started_dispatcher_stops_it() -> None:
    def push() -> forebay.Handle[Any]:
        d = Dispatcher(concurrency=2)
        d.handler(kind="noop")(lambda: None)
        d.start()
        threads.extend(d._threads)
        return d.push("other")

    threads: list[threading.Thread] = []
    handle = push()
    assert len(threads) == 2
    ended(threads)
    with pytest.raises(forebay.ClosedError, match="stopped"):
        handle.result(LIMIT)


def test_many_handles_cost_the_collector_nothing(d: Dispatcher) -> None:
    handles = [d.push("nobody", n) for n in range(1000)]
    assert not any(gc.is_tracked(handle) for handle in handles)


def test_queued_jobs_cost_the_collector_nothing(d: Dispatcher) -> None:
    call = d.handler(kind="call")(lambda *args, **kwargs: None)
    value = object()
    call.push(value, name=value)
    gc.collect()
    before = len(gc.get_objects())
    for _ in range(1000):
        call.push(value, value, name=value)
        d.push("nobody", value)
        d.push("nobody", b"octets", queue="other")
    assert len(gc.get_objects()) - before < 100


def test_the_last_reference_may_go_in_a_handler(gate: Gate) -> None:
    done = threading.Event()

    def push() -> None:
        box = [Dispatcher(concurrency=2)]

        @box[0].handler
        def drops() -> None:
            box.clear()
            gate.enter()
            gc.collect()
            done.set()

        box[0].start()
        threads.extend(box[0]._threads)
        drops.push()

    threads: list[threading.Thread] = []
    push()
    gate.reached()
    gate.open()
    assert done.wait(LIMIT)
    gc.collect()
    ended(threads)


def test_a_push_goes_on_while_workers_wait_for_the_interpreter(opened: Opened) -> None:
    d = opened(concurrency=1)
    noop = d.handler(kind="noop")(lambda: None)
    d.start()
    noop.push().result(LIMIT)
    waited, begin = 0, time.monotonic()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(LIMIT)  # This thread keeps the interpreter until it waits.
    try:
        # Once, unless other programs kept the worker that has claimed from asking for the interpreter.
        while waited < 15_000:
            assert time.monotonic() < begin + LIMIT, "no wait was counted"
            d.drain(LIMIT)
            before = counts(d)["attach_wait_us"]
            handle = noop.push()
            while handle.status != "running":
                pass
            claimed = time.monotonic()
            for _ in range(1000):
                noop.push()
            while time.monotonic() < claimed + 0.1:
                pass
            handle.result(LIMIT)
            waited = counts(d)["attach_wait_us"] - before
    finally:
        sys.setswitchinterval(interval)
    d.drain(LIMIT)
