"""Handlers that are interrupted when their job should stop: those of these jobs, and nothing else."""

from __future__ import annotations

import itertools
import queue
import random
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import forebay
import pytest
from conftest import LIMIT
from forebay import Dispatcher

from scripts import ROUNDS, always, run

Opened = Callable[..., Dispatcher]


@pytest.fixture
def quick_switches() -> Iterator[None]:
    """Threads take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def spins(d: Dispatcher, **options: Any) -> tuple[forebay.Handler[[], None], threading.Semaphore, list[str]]:
    """A handler that does not end by itself, what tells that it runs, and what it was hit by."""
    running, seen = threading.Semaphore(0), list[str]()

    def spin() -> None:
        running.release()
        try:
            while True:
                pass
        except BaseException as error:
            seen.append(repr(error))
            raise

    return d.handler(interrupt=True, **options)(spin), running, seen


def test_a_cancelled_handler_is_interrupted(d: Dispatcher) -> None:
    spin, running, seen = spins(d, max_attempts=1)
    d.start()
    handle = spin.push()
    assert running.acquire(timeout=LIMIT)
    assert handle.cancel() == "running"
    with pytest.raises(forebay.JobCancelled):
        handle.result(LIMIT)
    d.drain(LIMIT)
    assert seen == ["JobCancelled('')"]
    assert d.handler(kind="next")(lambda: 7).push().result(LIMIT) == 7


def test_a_handler_that_takes_too_long_is_interrupted(opened: Opened) -> None:
    d = opened(concurrency=1, clock="manual")
    spin, running, seen = spins(d, timeout="1s", max_attempts=1)
    d.start()
    handle = spin.push()
    assert running.acquire(timeout=LIMIT)
    d.advance(2)
    with pytest.raises(forebay.JobFailed) as caught:
        handle.result(LIMIT)
    assert caught.value.kind == "timed_out", "and not what was raised"
    d.drain(LIMIT)
    assert seen == ["JobCancelled('')"]


def test_a_stop_interrupts_what_outlives_the_grace(opened: Opened) -> None:
    d = opened(concurrency=2)
    spin, running, seen = spins(d)
    d.start()
    handle = spin.push()
    assert running.acquire(timeout=LIMIT)
    threads = list(d._threads)
    d.request_stop()
    assert d.stop(grace=0.05).handed_back == 1
    for thread in threads:
        thread.join(LIMIT)
        assert not thread.is_alive()
    assert seen == ["JobCancelled('')"]
    assert handle.status == "queued"


def test_who_does_not_ask_for_it_is_not_interrupted(d: Dispatcher) -> None:
    running, go_on = threading.Event(), threading.Event()

    @d.handler(pass_job=True)
    def patient(job: forebay.Job) -> None:
        running.set()
        while not go_on.is_set():
            pass

    d.handler(kind="other", interrupt=True)(lambda: None)
    d.start()
    handle = patient.push()
    assert running.wait(LIMIT)
    assert handle.cancel() == "running"
    go_on.set()
    with pytest.raises(forebay.JobCancelled):
        handle.result(LIMIT)
    d.drain(LIMIT)


def test_what_a_handler_makes_of_it_counts_for_nothing(d: Dispatcher) -> None:
    """It may swallow it, or raise something else: the job was cancelled. It comes once."""
    running = threading.Semaphore(0)
    times: list[int] = []

    @d.handler(interrupt=True)
    def swallows(raises: bool) -> str:
        running.release()
        times.append(0)
        for _ in range(2):
            try:
                for _ in itertools.count() if times[-1] == 0 else range(10_000):
                    pass
            except forebay.JobCancelled:
                times[-1] += 1
        if raises:
            raise ValueError("of its own")
        return "done"

    d.start()
    for raises in (False, True):
        handle = swallows.push(raises)
        assert running.acquire(timeout=LIMIT)
        handle.cancel()
        with pytest.raises(forebay.JobCancelled):
            handle.result(LIMIT)
    d.drain(LIMIT)
    assert times == [1, 1]


def test_a_job_that_is_to_stop_already_does_not_begin(opened: Opened) -> None:
    d = opened(concurrency=1)
    begun: list[int] = []

    class Hooks:
        """A hook is before the handler, and may cancel its job."""

        def __call__(self, job: forebay.Job) -> None:
            d.cancel(job.id)

    d.add_hooks(before=Hooks())
    d.handler(kind="late", interrupt=True)(lambda: begun.append(1))
    d.start()
    with pytest.raises(forebay.JobCancelled):
        d.push("late").result(LIMIT)
    d.drain(LIMIT)
    assert begun == []


def test_an_async_handler_has_no_use_for_it(d: Dispatcher) -> None:
    async def coroutine() -> None: ...

    with pytest.raises(forebay.InvalidError, match="leave interrupt out"):
        d.handler(interrupt=True)(coroutine)


def test_interruptions_never_hit_another(opened: Opened, quick_switches: None) -> None:
    """Thousands of them race with the ends of jobs, on threads that run other jobs in between."""
    d = opened(concurrency=2)
    wrong: list[str] = []
    begun: queue.SimpleQueue[tuple[forebay.Job, int] | None] = queue.SimpleQueue()
    ends, about = Counter[str](), set[int]()

    @d.handler(pass_job=True, interrupt=True, max_attempts=1)
    def short(job: forebay.Job, number: int, n: int) -> None:
        try:
            begun.put((job, number))
            while number not in about:
                pass
            for _ in range(n):
                pass
            ends["returned"] += 1
        except forebay.JobCancelled:
            ends["interrupted"] += 1
            if not job.cancelled:
                wrong.append(f"job {job.id} was not to stop")
            raise

    @d.handler(kind="bystander", max_attempts=1)
    def bystander(n: int) -> int:
        return sum(1 for _ in range(n))

    def hook(job: forebay.Job, *_: object) -> None:
        """Python code around the handler. What is raised in it is unraisable, and fails the test."""
        sum(1 for _ in range(50))

    def cancel() -> None:
        # About when the handler ends.
        for job, number in iter(begun.get, None):
            about.add(number)
            d.cancel(job.id)

    d.add_hooks(before=hook, after=hook)
    seed = random.randrange(2**32)
    rng, handles, bystanders = random.Random(seed), [], []
    canceller = threading.Thread(target=cancel)
    canceller.start()
    d.start()
    for number in range(500 * ROUNDS):
        handles.append(short.push(number, rng.choice([0, 10, 100, 1000, 10_000])))
        bystanders.append(bystander.push(rng.randrange(200)))
    d.drain(LIMIT * ROUNDS)
    begun.put(None)
    canceller.join(LIMIT)
    assert wrong == [], f"seed {seed}"
    assert {h.status for h in bystanders} == {"succeeded"}
    assert {h.status for h in handles} <= {"succeeded", "cancelled"}
    assert [thread.is_alive() for thread in d._threads] == [True, True]
    assert d._interrupter is not None
    assert d._interrupter.is_alive()
    # Both ends of the race were met; how often depends on the machine.
    cancelled = sum(h.status == "cancelled" for h in handles)
    assert cancelled >= ends["interrupted"] > 0, ends
    assert ends["returned"] > 0, ends


def test_what_was_not_raised_in_time_is_taken_back(opened: Opened) -> None:
    """A function of C's is not interrupted, and nothing is left behind for what its thread runs next."""
    d = opened(concurrency=2)
    spin, running, seen = spins(d, max_attempts=1)
    lock = threading.Lock()
    # What is called is the lock's own method: there is no bytecode in which it could be raised.
    blocks = d.handler(kind="blocks", interrupt=True, max_attempts=1)(lock.acquire)
    d.handler(kind="next")(lambda n: sum(1 for _ in range(n)))
    hooked: list[str] = []
    d.add_hooks(before=lambda job: hooked.append(job.kind), after=lambda job, *_: hooked.append(job.kind))
    d.start()
    for round_ in range(20 * ROUNDS):
        lock.acquire()
        blocked = blocks.push()
        while blocked.status != "running":
            pass
        spinning = spin.push()
        assert running.acquire(timeout=LIMIT)
        after = [d.push("next", 10) for _ in range(4)]
        blocked.cancel()
        spinning.cancel()
        while len(seen) <= round_:
            pass
        # They are asked in turn, so the other one has been asked by now.
        lock.release()
        assert [h.result(LIMIT) for h in after] == [10] * 4
        d.drain(LIMIT)
        if lock.locked():  # Unless it was cancelled before it began.
            lock.release()
        assert blocked.status == "cancelled"
    assert len(hooked) == 2 * 6 * 20 * ROUNDS


def test_a_tracer_gets_on_after_an_interruption() -> None:
    code = """
    d = forebay.Dispatcher(concurrency=1)
    entered = threading.Event()
    @d.handler(interrupt=True)
    def spin():
        entered.set()
        while True:
            pass
    with d:
        job = spin.push()
        entered.wait(60)
        job.cancel()
        d.drain(60)
    def work():
        return sum(n for n in range(100))
    sys.setprofile(lambda *_: None)
    work()
    sys.settrace(lambda *_: None)
    work()
    """
    assert run(code) == (0, "", "")


def test_exit_while_handlers_are_interrupted() -> None:
    code = """
    d = forebay.Dispatcher(concurrency=2, grace="1ms")
    ready = threading.Semaphore(0)
    @d.handler(interrupt=True)
    def work(n):
        ready.release()
        while True:
            pass
    d.start()
    for n in range(10):
        work.push(n)
    for _ in range(2):
        assert ready.acquire(timeout=60)
    """
    always(code)


def test_a_fork_in_an_interruptible_handler() -> None:
    code = """
    d = forebay.Dispatcher(concurrency=2)
    @d.handler(interrupt=True)
    def forks():
        child = os.fork()
        if child == 0:
            return "in the child, to nobody"
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    d.start()
    assert forks.push().result(60) == 0
    """
    always(code)
