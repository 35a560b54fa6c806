"""How workers share the interpreter: quick jobs are one worker's, and nothing is left behind it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

import pytest
from conftest import LIMIT, Gate
from forebay import Dispatcher

from scripts import ROUNDS, run

Opened = Callable[..., Dispatcher]

BURST = 3000
"""So many quick jobs that a runner is appointed."""


@pytest.mark.parametrize("workers", [2, 4])
def test_nothing_is_left_behind_a_runner_that_blocks(opened: Opened, workers: int) -> None:
    d = opened(concurrency=workers)
    quick = d.handler(kind="quick")(lambda n: n)
    d.start()
    for _ in range(ROUNDS):
        gates = [Gate() for _ in range(workers - 1)]
        handles = [quick.push(n) for n in range(BURST)]
        for gate in gates:
            d.handler(kind="block")(lambda _, gate=gate: gate.enter())
            blocked = d.push("block")
            gate.reached()
            handles += [quick.push(n) for n in range(BURST)]
            assert blocked.status == "running"
        assert [h.result(LIMIT) for h in handles] == [*range(BURST)] * workers
        for gate in gates:
            gate.open()
        d.drain(LIMIT)


def test_blocking_handlers_run_side_by_side_in_the_midst_of_quick_ones(opened: Opened) -> None:
    d = opened(concurrency=4)
    together = threading.Barrier(4)
    quick = d.handler(kind="quick")(lambda n: None)
    meet = d.handler(kind="meet", max_attempts=1)(lambda: together.wait(LIMIT))
    d.start()
    for _ in range(ROUNDS):
        met = []
        for _ in range(4):
            for n in range(BURST):
                quick.push(n)
            met.append(meet.push())
        assert sorted(h.result(LIMIT) for h in met) == [0, 1, 2, 3]
        d.drain(LIMIT)


def test_a_runner_may_wait_for_a_job_behind_it(opened: Opened) -> None:
    d = opened(concurrency=2)
    quick = d.handler(kind="quick")(lambda n: n)
    outer = d.handler(kind="outer")(lambda: [quick.push(n) for n in range(BURST)][-1].result(LIMIT))
    d.start()
    for _ in range(ROUNDS):
        for n in range(BURST):
            quick.push(n)
        assert outer.push().result(LIMIT) == BURST - 1


def test_a_handler_that_computes_keeps_nobody_from_pushing_and_running(opened: Opened) -> None:
    d = opened(concurrency=2)
    enough = threading.Event()
    quick = d.handler(kind="quick")(lambda n: n)

    @d.handler
    def computes() -> int:
        turns = 0
        while not enough.is_set():
            turns += 1
        return turns

    d.start()
    for n in range(BURST):
        quick.push(n)
    busy = computes.push()
    handles = [quick.push(n) for n in range(100)]
    assert [h.result(LIMIT) for h in handles] == list(range(100))
    enough.set()
    assert busy.result(LIMIT) > 0


def test_workers_that_stand_by_end_with_the_others(opened: Opened) -> None:
    for _ in range(ROUNDS):
        d = opened(concurrency=4)
        started = threading.Event()

        def endless(n: int, d: Dispatcher = d, started: threading.Event = started) -> None:
            if not d.stopping:
                d.push("endless", n + 8)
            if n > BURST:
                started.set()

        d.handler(kind="endless")(endless)
        d.start()
        for n in range(8):
            d.push("endless", n)
        assert started.wait(LIMIT)
        threads = list(d._threads)
        d.stop()
        assert len(threads) == 4
        for thread in threads:
            thread.join(LIMIT)
            assert not thread.is_alive()


def test_a_runner_that_ends_its_thread_leaves_the_rest_to_others(opened: Opened) -> None:
    d = opened(concurrency=3)
    quick = d.handler(kind="quick")(lambda n: n)
    left, gone = iter([True, True]), queue.Queue[threading.Thread]()

    @d.handler
    def leaves() -> None:
        if next(left, False):
            gone.put(threading.current_thread())
            raise SystemExit

    d.start()
    handles = []
    for _ in range(2):
        handles += [quick.push(n) for n in range(BURST)]
        leaves.push()
    handles += [quick.push(n) for n in range(BURST)]
    assert [h.result(LIMIT) for h in handles] == [*range(BURST)] * 3
    for _ in range(2):
        gone.get(timeout=LIMIT).join(LIMIT)
    assert sum(thread.is_alive() for thread in d._threads) == 1


def test_the_interpreter_ends_in_the_midst_of_quick_jobs() -> None:
    for _ in range(ROUNDS):
        code, out, err = run(
            """
            d = forebay.Dispatcher(concurrency=4, capacity=0, grace=1)
            quick = d.handler(kind="quick")(lambda n: None)
            d.start()
            for n in range(20_000):
                quick.push(n)
            say("pushed")
            """
        )
        assert (code, out, err) == (0, "pushed\n", "")


def test_a_fork_in_the_midst_of_quick_jobs() -> None:
    for _ in range(ROUNDS):
        code, out, err = run(
            """
            d = forebay.Dispatcher(concurrency=4, capacity=0)
            quick = d.handler(kind="quick")(lambda n: None)

            @d.handler
            def forks():
                child = os.fork()
                if child == 0:
                    os._exit(7)
                return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

            d.start()
            forked = []
            for n in range(5):
                for n in range(2000):
                    quick.push(n)
                forked.append(forks.push())
            assert [h.result(LIMIT) for h in forked] == [7] * 5
            d.drain(LIMIT)
            d.stop()
            say("done")
            """
        )
        assert (code, out, err) == (0, "done\n", "")
