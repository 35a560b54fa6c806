"""The pull side: jobs that are asked for, and answered for later, by whichever thread."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable

import pytest
from conftest import LIMIT
from forebay import (
    ClosedError,
    Delivery,
    Dispatcher,
    EncodeError,
    InvalidError,
    Job,
    JobCancelled,
    NotFoundError,
    Retry,
    StaleLease,
)

from scripts import run


def take(d: Dispatcher) -> Delivery:
    """The next job, which must be there."""
    job = d.consumer().next(0)
    assert job is not None
    return job


def test_a_job_is_asked_for_and_answered(d: Dispatcher) -> None:
    handle = d.push("mail", b"hello", key="k1", priority=3, headers={"trace": "7"}, concurrency_key="acme")
    job = d.consumer(["mail"], lease=60).next(0)
    assert job is not None
    assert isinstance(job, Job)
    assert (job.id, job.kind, job.queue, job.payload) == (handle.id, "mail", "default", b"hello")
    assert (job.key, job.priority, job.headers) == ("k1", 3, {"trace": "7"})
    assert (job.concurrency_key, job.attempt, job.fence) == ("acme", 1, 1)
    assert job.due is not None
    assert job.due > job.created
    assert handle.status == "running"
    job.complete({"sent": True})
    assert handle.result(0) == {"sent": True}


def test_only_what_is_asked_for_comes(d: Dispatcher) -> None:
    d.push("a", queue="one")
    d.push("b", queue="two")
    assert d.consumer(["c"]).next(0) is None
    assert d.consumer(["a"], queues=["two"]).next(0) is None
    assert [job.kind for job in d.consumer(queues=["two"]).next_many(9, 0)] == ["b"]
    with pytest.raises(TypeError):
        d.consumer("a")
    with pytest.raises(InvalidError):
        d.consumer([""])


def test_values_come_by_reference(d: Dispatcher) -> None:
    value = object()
    handle = d.push("k", value)
    job = take(d)
    assert job.payload is value
    job.complete(value)
    assert handle.result(0) is value


def test_every_answer_has_its_meaning(opened: Callable[..., Dispatcher]) -> None:
    d = opened(clock="manual", retry="constant(1h)")

    def answered(answer: Callable[[Delivery], None]) -> tuple[str, int, str | None]:
        handle = d.push("k")
        answer(take(d))
        job = handle.job()
        return job.status, job.attempt, job.error

    assert answered(lambda job: job.complete()) == ("succeeded", 1, None)
    assert answered(lambda job: job.fail("broken")) == ("scheduled", 1, "broken")
    assert answered(lambda job: job.fatal("lost")) == ("failed", 1, "lost")
    assert answered(lambda job: job.retry("2h", "later"))[:2] == ("scheduled", 1)
    assert answered(lambda job: job.snooze(60)) == ("scheduled", 0, None)
    assert answered(lambda job: job.rate_limited()) == ("scheduled", 0, None)
    assert answered(lambda job: job.cancel("gone"))[0] == "cancelled"


def test_what_was_raised_counts_as_raised_by_a_handler(opened: Callable[..., Dispatcher]) -> None:
    d = opened(clock="manual", retry="constant(1h)")
    handle = d.push("k")
    job = take(d)
    try:
        raise ValueError("no such account")
    except ValueError as error:
        job.fail(error)
    assert "ValueError: no such account" in (handle.job().error or "")
    d.advance("1h")
    take(d).fail(Retry(after=60))
    d.advance(60)
    assert take(d).attempt == 3


def test_successors_come_with_the_answer_or_not_at_all(d: Dispatcher) -> None:
    first = d.push("k")
    job = take(d)
    with pytest.raises(InvalidError):
        job.complete(then=[("next", 1), {"kind": ""}])
    assert (first.status, d.len()) == ("running", 0)
    job.complete(then=[("next", 1), {"kind": "next", "payload": 2, "delay": "1h"}])
    assert (first.status, d.len(), take(d).payload) == ("succeeded", 2, 1)


def test_a_result_that_cannot_be_written_leaves_the_delivery(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    d = Dispatcher(tmp_path_factory.mktemp("consumer") / "jobs.db")
    handle = d.push("k", 1)
    job = take(d)
    with pytest.raises(EncodeError):
        job.complete(object())
    job.complete("text")
    assert handle.result(0) == "text"
    d.stop(0)


def test_of_many_answers_one_counts(d: Dispatcher) -> None:
    for _ in range(50):
        handle, start = d.push("k"), threading.Barrier(4)
        won: list[int] = []
        job = take(d)

        def answer(job: Delivery = job, start: threading.Barrier = start, won: list[int] = won) -> None:
            start.wait(LIMIT)
            try:
                job.complete()
                won.append(1)
            except StaleLease:
                pass

        threads = [threading.Thread(target=answer) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT)
        assert (won, handle.status) == ([1], "succeeded")


def test_a_cancellation_and_a_timeout_are_heard(opened: Callable[..., Dispatcher]) -> None:
    d = opened(clock="manual")
    handle = d.push("k")
    job = take(d)
    assert (job.cancelled, job.stop_reason) == (False, None)
    job.check()
    handle.cancel()
    assert (job.cancelled, job.stop_reason) == (True, "cancelled")
    with pytest.raises(JobCancelled):
        job.check()
    job.complete()
    assert handle.status == "cancelled"
    d.push("k")
    late = d.consumer(lease=10).next(0)
    assert late is not None
    d.advance(9)
    late.extend(10)
    d.advance(9)
    assert not late.cancelled
    d.advance(1)
    assert late.stop_reason == "lease_lost"
    with pytest.raises(StaleLease):
        late.extend(10)


def test_what_is_let_go_unanswered_has_failed(d: Dispatcher) -> None:
    handle = d.push("k", max_attempts=1)
    take(d)
    gc.collect()
    assert handle.status == "failed"
    assert "without an answer" in (handle.job().error or "")
    answered = d.push("k")
    job = take(d)
    job.complete()
    del job
    assert answered.status == "succeeded"


def test_what_an_answered_delivery_carried_is_let_go(d: Dispatcher) -> None:
    class Value:
        pass

    value = Value()
    gone = weakref.ref(value)
    d.push("k", value)
    del value
    job = take(d)
    job.complete()
    assert gone() is job.payload
    del job
    # A reference that the core has let go is dropped when attached code comes by.
    d.push("k")
    assert gone() is None


def test_a_stop_hands_back_and_ends_the_wait(d: Dispatcher) -> None:
    d.push("k")
    job, consumer = take(d), d.consumer()
    ended = threading.Event()

    def wait() -> None:
        with pytest.raises(ClosedError):
            consumer.next()
        ended.set()

    thread = threading.Thread(target=wait)
    thread.start()
    assert d.stop(0).handed_back == 1
    assert ended.wait(LIMIT)
    thread.join(LIMIT)
    with pytest.raises(StaleLease):
        job.complete()
    del job


def test_a_consumer_is_asked_by_one_thread_at_a_time(d: Dispatcher) -> None:
    consumer, closed = d.consumer(), threading.Event()

    def wait() -> None:
        with pytest.raises(ClosedError):
            consumer.next()
        closed.set()

    before = d.stats()["sleeps"]
    thread = threading.Thread(target=wait)
    thread.start()
    # Whoever is asleep is in the midst of asking.
    until = time.monotonic() + LIMIT
    while d.stats()["sleeps"] == before:
        assert time.monotonic() < until, "nobody waits"
    with pytest.raises(InvalidError, match="one per thread"):
        consumer.next(0)
    d.stop(0)
    assert closed.wait(LIMIT)
    thread.join(LIMIT)


def test_a_kind_is_declared_without_a_handler(opened: Callable[..., Dispatcher]) -> None:
    d = opened(unknown_kinds="reject")
    d.declare("k", max_attempts=2, concurrency=1)
    d.push("k")
    d.push("k")
    jobs = d.consumer().next_many(9, 0)
    assert [job.max_attempts for job in jobs] == [2]
    with pytest.raises(NotFoundError):
        d.declare("k", speed=3)  # type: ignore[call-arg]


def test_unanswered_deliveries_hinder_no_exit_and_no_child() -> None:
    code = """
    d = forebay.Dispatcher(grace="50ms")
    for n in range(10):
        d.push("k", object())
    jobs = d.consumer().next_many(10, 0)
    child = os.fork()
    if child == 0:
        try:
            d.consumer().next(0)
        except forebay.ForkedError:
            say("refused")
        del jobs
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    jobs[0].complete(object())
    del jobs[1]
    say("done")
    """
    status, out, errors = run(code)
    assert (status, out.split(), errors) == (0, ["refused", "done"], "")


def test_how_many_is_a_number_of_jobs(d: Dispatcher) -> None:
    d.push("k")
    consumer = d.consumer()
    for wrong in (-1, -(2**70), 2**64):
        with pytest.raises(InvalidError, match=f"max is {wrong}; it must be 0 or more"):
            consumer.next_many(wrong, 0)
    with pytest.raises(TypeError):
        consumer.next_many("2", 0)  # type: ignore[arg-type]
    assert consumer.next_many(0, 0) == []
    assert len(consumer.next_many(2**40, 0)) == 1
