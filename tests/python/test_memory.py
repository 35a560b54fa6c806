"""Memory stays flat, whatever the number of jobs: counted in blocks of Python's and in pages."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forebay
import pytest
from conftest import LIMIT
from forebay import Dispatcher

from scripts import ROUNDS

Opened = Callable[..., Dispatcher]

JOBS = 10_000_000 if ROUNDS >= 200 else 20_000
"""How many jobs a case runs at most, ten million at night."""
BATCH = 2000


def pages() -> int:
    """How many pages this process has in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1])


class Thing:
    """An object that is no constant of anybody's."""


def pushes(d: Dispatcher) -> None:
    """Handles are dropped, and results nobody reads."""
    echo = d.handler(kind="echo")(lambda thing: thing)
    for _ in range(BATCH):
        echo.push(Thing())
    d.drain(LIMIT)


def results(d: Dispatcher) -> None:
    """Results are read."""
    echo = d.handler(kind="echo")(lambda thing: thing)
    for handle in [echo.push(Thing()) for _ in range(BATCH)]:
        assert type(handle.result(LIMIT)) is Thing


def failures(d: Dispatcher) -> None:
    """Exceptions with tracebacks, of handlers and of those who wait for them."""

    def fails(thing: Thing) -> None:
        raise ValueError(thing)

    bad = d.handler(kind="fails", max_attempts=1)(fails)
    for handle in [bad.push(Thing()) for _ in range(BATCH // 4)]:
        with pytest.raises(forebay.JobFailed):
            handle.result(LIMIT)


def jobs(d: Dispatcher) -> None:
    """Handlers that take their job, and ask things of it."""

    @d.handler(kind="asks", pass_job=True)
    def asks(job: forebay.Job, thing: Thing) -> object:
        job.check()
        return job.headers, job.wait_stop(0), job.id

    for _ in range(BATCH // 4):
        asks.push(Thing())
    d.drain(LIMIT)


def cancelled(d: Dispatcher) -> None:
    """Jobs that are cancelled before they run, and with them what they carried."""
    d.pause()
    for handle in [d.push("echo", Thing()) for _ in range(BATCH // 4)]:
        assert handle.cancel() == "cancelled"
    d.resume()


def interruptible(d: Dispatcher) -> None:
    """Handlers that may be interrupted, of which some are."""
    quick = d.handler(kind="quick", interrupt=True, max_attempts=1)(lambda n: sum(range(n)) and None)
    for handle in [quick.push(100) for _ in range(BATCH // 4)]:
        handle.cancel()
    d.drain(LIMIT)


@pytest.mark.parametrize("case", [pushes, results, failures, jobs, cancelled, interruptible])
def test_memory_is_flat(opened: Opened, case: Callable[[Dispatcher], Any]) -> None:
    # So many that whoever waits finds them, and so few that they are all there at the first look.
    d = opened(concurrency=2, keep_finished=BATCH * 5 // 4)
    d.start()
    seen: list[tuple[int, int]] = []
    for n in range(max(12, JOBS // BATCH)):
        case(d)
        if n == 5 or n >= max(12, JOBS // BATCH) - 1:
            d.drain(LIMIT)
            gc.collect()
            d.stats()  # What was laid down elsewhere is dropped.
            seen.append((sys.getallocatedblocks(), pages()))
    (blocks, size), (blocks_then, size_then) = seen
    # The smallest case has run 3000 jobs in between. How many finished ones are kept varies by a tenth.
    assert blocks_then - blocks < 1500, seen
    assert (size_then - size) * os.sysconf("SC_PAGE_SIZE") < 8 << 20, seen


def test_dispatchers_leave_nothing_behind() -> None:
    def life() -> None:
        with Dispatcher(concurrency=2) as d:
            echo = d.handler(kind="echo", interrupt=True)(lambda thing: thing)
            assert type(echo.push(Thing()).result(LIMIT)) is Thing

    seen: list[int] = []
    for n in range(max(30, JOBS // 10_000)):
        life()
        if n >= 9:
            gc.collect()
            seen.append(sys.getallocatedblocks())
    assert min(seen[-5:]) - min(seen[:5]) < 200, seen


def test_no_page_is_made_for_a_job(opened: Opened) -> None:
    """A thread that attached for each job would make and free a Python stack each time."""
    d = opened(concurrency=1, keep_finished=0)
    noop = d.handler(kind="noop")(lambda n: None)
    d.start()
    for n in range(2000):
        noop.push(n)
    d.drain(LIMIT)
    before = Path("/proc/self/maps").read_text().count("\n")
    for _ in range(10):
        for n in range(1000):
            noop.push(n)
        d.drain(LIMIT)
    assert Path("/proc/self/maps").read_text().count("\n") - before <= 4
