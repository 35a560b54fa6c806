"""Waiting until a handler should stop."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import forebay
import pytest
from conftest import LIMIT
from forebay import Dispatcher

Opened = Callable[..., Dispatcher]


@pytest.fixture
def told(d: Dispatcher) -> dict[str, Any]:
    """What a handler hears that waits, and when it has begun to."""
    return {"waits": threading.Semaphore(0), "reasons": []}


def waits(d: Dispatcher, told: dict[str, Any]) -> forebay.JobHandler[[], str | None]:
    @d.handler(pass_job=True, max_attempts=1)
    def wait(job: forebay.Job) -> str | None:
        told["waits"].release()
        reason = job.wait_stop(LIMIT)
        told["reasons"].append((reason, job.stop_reason, job.cancelled))
        return reason

    return wait


def test_a_handler_may_wait_until_it_is_cancelled(d: Dispatcher, told: dict[str, Any]) -> None:
    wait = waits(d, told)
    d.start()
    handle = wait.push()
    assert told["waits"].acquire(timeout=LIMIT)
    assert handle.cancel() == "running"
    with pytest.raises(forebay.JobCancelled):
        handle.result(LIMIT)
    d.drain(LIMIT)
    assert told["reasons"] == [("cancelled", "cancelled", True)]


def test_a_timeout_ends_the_wait(opened: Opened, told: dict[str, Any]) -> None:
    d = opened(concurrency=1, clock="manual", timeout="1s")
    wait = waits(d, told)
    d.start()
    wait.push()
    assert told["waits"].acquire(timeout=LIMIT)
    d.advance(2)
    d.drain(LIMIT)
    assert told["reasons"] == [("timed_out", "timed_out", True)]


def test_a_stop_ends_the_wait_unless_it_is_no_reason(d: Dispatcher) -> None:
    begun, ended = threading.Semaphore(0), threading.Semaphore(0)
    reasons: list[str | None] = []

    @d.handler(pass_job=True)
    def wait(job: forebay.Job, stopping: bool) -> None:
        begun.release()
        reasons.append(job.wait_stop(stopping=stopping))
        ended.release()

    d.start()
    willing, stubborn = wait.push(True), wait.push(False)
    for _ in range(2):
        assert begun.acquire(timeout=LIMIT)
    d.request_stop()
    willing.result(LIMIT)
    with pytest.raises(forebay.WaitTimeout):
        stubborn.result(timeout=0)
    assert d.stop(grace=0.05).handed_back == 1
    # It hears of it at once, and a stop does not wait for it for long.
    assert ended.acquire(timeout=LIMIT)
    assert ended.acquire(timeout=LIMIT)
    assert reasons == ["stopping", "lease_lost"]
    assert stubborn.status == "queued"


def test_without_a_reason_the_time_passes(d: Dispatcher) -> None:
    @d.handler(pass_job=True)
    def wait(job: forebay.Job) -> list[str | None]:
        return [job.wait_stop(0), job.wait_stop("1ms"), job.wait_stop(0, stopping=False)]

    d.start()
    assert wait.push().result(LIMIT) == [None, None, None]


def test_another_thread_may_wait_for_the_handler(d: Dispatcher) -> None:
    heard: list[str | None] = []
    jobs: list[forebay.Job] = []

    def listen(job: forebay.Job) -> None:
        try:
            heard.append(job.wait_stop(LIMIT))
        except forebay.StaleLease:
            heard.append("too late")

    @d.handler(pass_job=True)
    def work(job: forebay.Job) -> None:
        thread = threading.Thread(target=listen, args=(job,))
        thread.start()
        jobs.append(job)
        # It may wait already or not yet, and the attempt may have ended before it does.
        threads.append(thread)

    threads: list[threading.Thread] = []
    d.start()
    for _ in range(50):
        work.push().result(LIMIT)
    for thread in threads:
        thread.join(LIMIT)
        assert not thread.is_alive()
    assert len(heard) == 50
    assert set(heard) <= {"lease_lost", "too late"}
    with pytest.raises(forebay.StaleLease, match="has ended"):
        jobs[0].wait_stop(LIMIT)


def test_a_delivery_may_be_waited_for(d: Dispatcher) -> None:
    handle = d.push("work")
    delivery = d.consumer(["work"]).next(LIMIT)
    assert delivery is not None
    assert delivery.wait_stop(0) is None
    handle.cancel()
    assert delivery.wait_stop(LIMIT) == "cancelled"
    delivery.complete()
    assert delivery.wait_stop(LIMIT) == "lease_lost"


def test_a_wait_lets_others_run(opened: Opened) -> None:
    d = opened(concurrency=2)
    begun = threading.Event()

    @d.handler(pass_job=True)
    def wait(job: forebay.Job) -> str | None:
        begun.set()
        return job.wait_stop(LIMIT)

    quick = d.handler(kind="quick")(lambda n: n)
    d.start()
    waiting = wait.push()
    assert begun.wait(LIMIT)
    assert [quick.push(n).result(LIMIT) for n in range(100)] == list(range(100))
    waiting.cancel()
    d.drain(LIMIT)
