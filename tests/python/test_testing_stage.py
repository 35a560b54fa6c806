"""`forebay.testing.Stage`: what waits, what runs when the test says so, and what failures show."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock

import forebay
import pytest
from forebay import Dispatcher, Handler, InvalidError, Job, JobHandler, RateLimited, Retry, Snooze
from forebay.testing import DrainLimitError, Stage


@pytest.fixture
def stage() -> Iterator[Stage]:
    with Stage(retry="constant(10s)", max_attempts=3) as stage:
        yield stage


@pytest.fixture
def d(stage: Stage) -> Dispatcher:
    return stage.dispatcher


def test_nothing_runs_until_the_test_says_so(stage: Stage, d: Dispatcher) -> None:
    threads = threading.active_count()
    ran: list[Any] = []
    note = d.handler(kind="note")(ran.append)
    with d:
        d.start()
        note.push(1)
        note.push(2)
        assert d.stop().waiting == 2
        d.request_stop()
    assert not d.stopping
    assert (ran, threading.active_count()) == ([], threads)
    report = stage.drain()
    assert ran == [1, 2]
    assert (report.succeeded, report.failed, report.retried, report.left) == (2, 0, 0, 0)
    assert [(run.kind, run.outcome, run.attempt) for run in report.runs] == [("note", "succeeded", 1)] * 2


def test_a_program_that_runs_or_drains_its_dispatcher_runs_what_is_due(d: Dispatcher) -> None:
    ran: list[Any] = []
    note = d.handler(kind="note")(ran.append)
    note.push(1)
    d.run()
    note.push(2)
    d.drain()
    assert ran == [1, 2]


def test_the_order_is_that_of_one_worker(stage: Stage, d: Dispatcher) -> None:
    ran: list[str] = []
    note = d.handler(kind="note")(ran.append)
    follow = d.handler(kind="follow")(lambda: note.options(priority=3).push("followed"))
    follow.options(priority=5).push()
    note.push("last")
    note.options(priority=1).push("third")
    note.options(priority=2).push("second")
    assert stage.drain().succeeded == 5
    assert ran == ["followed", "second", "third", "last"]


def test_what_is_scheduled_waits_for_the_clock(stage: Stage, d: Dispatcher) -> None:
    ran: list[datetime] = []
    note = d.handler(kind="note")(lambda: ran.append(stage.now()))
    begin = stage.now()
    note.options(delay=60).push()
    note.options(delay=3600).push()
    assert stage.drain().left == 2
    stage.advance("59s")
    assert stage.drain().left == 2
    stage.advance(timedelta(seconds=1))
    assert stage.drain().left == 1
    assert stage.drain(scheduled=True).left == 0
    assert [round((at - begin).total_seconds(), 3) for at in ran] == [60, 3600]
    stage.advance_to(begin + timedelta(days=1))
    assert round((stage.now() - begin) / timedelta(days=1), 6) == 1
    with pytest.raises(InvalidError, match="has passed"):
        stage.advance_to(begin)


def test_the_clock_may_stand_anywhere() -> None:
    with Stage(start=datetime(2031, 2, 3, tzinfo=UTC)) as stage:
        assert stage.now() == datetime(2031, 2, 3, tzinfo=UTC)
    with pytest.raises(InvalidError, match="no time zone"):
        Stage(start=datetime(2031, 2, 3))


def test_every_outcome_is_told(stage: Stage, d: Dispatcher) -> None:
    @d.handler(max_attempts=2)
    def does(what: str) -> str:
        match what:
            case "raise":
                raise ValueError("no")
            case "fatal":
                raise forebay.Fatal("never")
            case "retry":
                raise Retry(5)
            case "snooze":
                raise Snooze(5)
            case "limit":
                raise RateLimited(5)
        return what

    for what in ("work", "raise", "fatal", "retry", "snooze", "limit"):
        does.push(what)
    report = stage.drain()
    assert [run.outcome for run in report.runs] == [
        "succeeded",
        "retried",
        "failed",
        "retried",
        "snoozed",
        "rate_limited",
    ]
    assert (report.succeeded, report.failed, report.retried, report.left) == (1, 1, 4, 4)
    assert [type(error).__name__ for error in report.errors] == [
        "ValueError",
        "Fatal",
        "Retry",
        "Snooze",
        "RateLimited",
    ]
    assert "succeeded=1 failed=1 retried=4 left=4" in repr(report)
    assert "does: ValueError('no')" in repr(report)


def test_retries_run_to_the_end(stage: Stage, d: Dispatcher) -> None:
    @d.handler(pass_job=True)
    def third_time_lucky(job: Job) -> int:
        if job.attempt < 3:
            raise OSError("not yet")
        return job.attempt

    handle = third_time_lucky.push()
    report = stage.drain(scheduled=True)
    assert (report.retried, report.succeeded, report.left) == (2, 1, 0)
    assert handle.result(0) == 3


def test_a_failure_is_raised_with_its_traceback(stage: Stage, d: Dispatcher) -> None:
    raised = ValueError("the handler's own")

    @d.handler(max_attempts=1)
    def fails() -> None:
        raise raised

    handle = fails.push()
    later = fails.push()
    with pytest.raises(ValueError, match="the handler's own") as caught:
        stage.drain(raise_failures=True)
    assert caught.value is raised
    assert caught.traceback[-1].name == "fails"
    assert handle.status == "failed"
    assert "the handler's own" in str(handle.job().error)
    assert later.status == "queued"
    assert stage.drain().failed == 1


def test_what_a_handler_asks_for_is_no_failure(stage: Stage, d: Dispatcher) -> None:
    @d.handler
    def snoozes() -> None:
        raise Snooze(1)

    snoozes.push()
    assert stage.drain(raise_failures=True).count("snoozed") == 1


def test_an_assertion_of_the_test_is_not_swallowed(stage: Stage, d: Dispatcher) -> None:
    @d.handler
    def asserts() -> None:
        raise AssertionError("seen")

    asserts.push()
    with pytest.raises(AssertionError, match="seen"):
        stage.drain()
    asserts.push()
    assert stage.drain(raise_failures=False).retried == 1


@pytest.mark.parametrize("leaving", [KeyboardInterrupt, SystemExit, pytest.fail.Exception])
def test_who_leaves_the_test_leaves_the_drain(
    leaving: type[BaseException], stage: Stage, d: Dispatcher
) -> None:
    @d.handler
    def leaves() -> None:
        raise leaving("out")

    leaves.push()
    with pytest.raises(leaving):
        stage.drain()
    with pytest.raises(leaving):
        stage.perform(leaves)


def test_other_exceptions_of_that_kind_are_failed_attempts(stage: Stage, d: Dispatcher) -> None:
    @d.handler
    def stops() -> None:
        raise GeneratorExit

    stops.push()
    assert stage.drain().retried == 1


def test_a_drain_without_end_is_ended(stage: Stage, d: Dispatcher) -> None:
    @d.handler
    def again() -> None:
        again.push()

    again.push()
    with pytest.raises(DrainLimitError, match=r"50 attempts have run and jobs are still due, 1 wait.*again"):
        stage.drain(limit=50)
    assert d.list(status="queued").jobs[0].attempt == 0
    assert stage.waiting() == 1


def test_a_queue_can_be_drained_alone(stage: Stage, d: Dispatcher) -> None:
    note = d.handler(kind="note")(lambda: None)
    note.push()
    note.options(queue="mail").push()
    assert stage.drain(queue="mail").succeeded == 1
    assert [job.queue for job in stage.enqueued()] == ["default"]


def test_jobs_without_a_handler_and_of_paused_queues_are_left(stage: Stage, d: Dispatcher) -> None:
    note = d.handler(kind="note")(lambda: None)
    d.push("nobody")
    d.pause()
    note.push()
    assert stage.drain(scheduled=True).left == 2
    d.resume()
    assert stage.drain().left == 1


def test_a_handler_may_take_its_time(stage: Stage, d: Dispatcher) -> None:
    @d.handler(pass_job=True, timeout=5, max_attempts=1)
    def slow(job: Job, seconds: float) -> str | None:
        stage.advance(seconds)
        return job.stop_reason

    slow.push(4)
    slow.push(6)
    report = stage.drain()
    assert [(run.outcome, run.result) for run in report.runs] == [
        ("succeeded", None),
        ("timed_out", "timed_out"),
    ]
    assert report.failed == 1


def test_a_job_may_be_cancelled_by_its_own_handler(stage: Stage, d: Dispatcher) -> None:
    @d.handler(pass_job=True)
    def cancels(job: Job) -> None:
        d.cancel(job.id)
        job.check()

    cancels.push()
    assert [run.outcome for run in stage.drain(raise_failures=False).runs] == ["cancelled"]


def test_hooks_are_called(stage: Stage, d: Dispatcher) -> None:
    told: list[Any] = []
    d.add_hooks(
        before=lambda job: told.append(job.kind), after=lambda job, outcome, took: told.append(outcome)
    )
    d.handler(kind="note")(lambda: None).push()
    stage.drain()
    assert told == ["note", "success"]


def test_each_job_has_a_context_of_its_own(stage: Stage, d: Dispatcher) -> None:
    seen = contextvars.ContextVar("seen", default=0)

    @d.handler
    def counts() -> int:
        seen.set(seen.get() + 1)
        return seen.get()

    seen.set(5)
    handles = [counts.push(), counts.push()]
    stage.drain()
    assert [handle.result(0) for handle in handles] == [6, 6]
    assert seen.get() == 5


def test_jitter_is_the_same_again_for_a_seed() -> None:
    def pauses(seed: int) -> list[float]:
        with Stage(seed=seed, retry="exponential(1s, jitter=0.5)", max_attempts=6) as stage:

            @stage.dispatcher.handler
            def fails() -> None:
                raise ValueError

            fails.push()
            report, now = stage.drain(scheduled=True), stage.now()
            assert report.failed == 1
            return [round((run.job.run_at - now).total_seconds(), 3) for run in report.runs]

    assert pauses(1) == pauses(1)
    assert pauses(1) != pauses(2)


# ---- perform -----------------------------------------------------------------------------------------


@pytest.fixture
def greet(d: Dispatcher) -> JobHandler[[str], tuple[str, int, str]]:
    @d.handler(pass_job=True, max_attempts=3)
    def greet(job: Job, name: str) -> tuple[str, int, str]:
        if name == "bad":
            raise ValueError("bad")
        d.push("followed", name)
        return name, job.attempt, job.queue

    return greet


def test_perform_runs_one_attempt_beside_what_is_enqueued(
    stage: Stage, greet: JobHandler[[str], tuple[str, int, str]]
) -> None:
    greet.push("waits")
    run = stage.perform(greet, "ann", job={"queue": "mail", "attempt": 2})
    assert (run.outcome, run.result, run.error) == ("succeeded", ("ann", 2, "mail"), None)
    assert [job.kind for job in stage.enqueued()] == ["greet", "followed"]


def test_perform_tells_what_becomes_of_the_job(
    stage: Stage, greet: JobHandler[[str], tuple[str, int, str]]
) -> None:
    run = stage.perform(greet, "bad")
    assert (run.outcome, run.job.status, run.job.attempt) == ("retried", "scheduled", 1)
    assert isinstance(run.error, ValueError)
    assert run.error.__traceback__ is not None
    run = stage.perform(greet, "bad", job={"attempt": 3})
    assert (run.outcome, run.job.status, run.job.attempt) == ("failed", "failed", 3)


def test_perform_says_what_cannot_be(stage: Stage, greet: JobHandler[[str], tuple[str, int, str]]) -> None:
    with pytest.raises(InvalidError, match="attempt 4"):
        stage.perform(greet, "ann", job={"attempt": 4})
    with pytest.raises(InvalidError, match="leave delay and run_at out"):
        stage.perform(greet, "ann", job={"delay": 5})
    other = Dispatcher()
    strange = other.handler(kind="strange")(lambda: None)
    with pytest.raises(InvalidError, match=r"no handler of kind .strange."):
        stage.perform(strange)
    other.stop()


# ---- what is enqueued --------------------------------------------------------------------------------


@pytest.fixture
def send(d: Dispatcher) -> Handler[..., None]:
    @d.handler
    def send(to: str, subject: str = "hi", *rest: int, **more: int) -> None:
        pass

    return send


def test_arguments_match_however_they_were_given(stage: Stage, send: Handler[..., None]) -> None:
    send.push("ann", subject="one")
    send.push(to="bob", size=3)
    assert len(stage.assert_enqueued(send)) == 2
    stage.assert_enqueued(send, "ann", "one")
    stage.assert_enqueued(send, to="ann")
    stage.assert_enqueued("send", "bob", size=3)
    stage.assert_enqueued(send.__wrapped__, to=mock.ANY, subject="one", count=1)
    stage.assert_enqueued(send, kwargs={"to": "bob"}, args=())
    stage.assert_enqueued(count=2)
    stage.refute_enqueued(send, "ann", "two")
    stage.refute_enqueued(send, size=4)
    stage.refute_enqueued(send, to="ann", size=3)
    assert stage.enqueued(send, subject="hi") == []
    assert [job.payload["kwargs"] for job in stage.enqueued(send, to="bob")] == [{"to": "bob", "size": 3}]


def test_fields_match(stage: Stage, d: Dispatcher, send: Handler[..., None]) -> None:
    send.options(queue="mail", key="k", priority=4, delay=90, timeout=7, headers={"a": "1", "b": "2"}).push(
        "ann"
    )
    d.push("plain", {"n": 1})
    stage.assert_enqueued(
        send, "ann", queue="mail", key="k", priority=4, delay=90, timeout=7, status="scheduled"
    )
    stage.assert_enqueued(send, delay=timedelta(seconds=90), headers={"b": "2"})
    stage.assert_enqueued("plain", {"n": 1}, delay=0, queue="default")
    stage.refute_enqueued(send, delay=91)
    stage.refute_enqueued(send, headers={"b": "3"})
    with pytest.raises(InvalidError, match="is no handler, kind or function"):
        stage.assert_enqueued(print)


def test_jobs_that_ran_are_enqueued_no_more(stage: Stage, send: Handler[..., None]) -> None:
    send.push("ann")
    stage.drain()
    stage.refute_enqueued(send)


def test_a_failure_shows_what_there_is_and_the_nearest(
    stage: Stage, d: Dispatcher, send: Handler[..., None]
) -> None:
    d.push("other", 1)
    send.options(queue="mail", delay=5).push("bob", subject="one")
    send.options(key="k").push("ann", subject="one")
    with pytest.raises(AssertionError) as caught:
        stage.assert_enqueued(send, to="ann", subject="two", queue="default")
    assert str(caught.value).splitlines() == [
        "no job send(to='ann', subject='two', ...) queue='default' is enqueued",
        "nearest: send('ann', subject='one')  queue='default' key='k'  queued",
        "  subject: 'one', not 'two'",
        "enqueued, 3 in all:",
        "  other(1)  queue='default'  queued",
        "  send('bob', subject='one')  queue='mail'  scheduled, due in 5 s",
        "  send('ann', subject='one')  queue='default' key='k'  queued",
    ]
    with pytest.raises(AssertionError, match=r"2 jobs send\(\.\.\.\) are enqueued, not 1"):
        stage.assert_enqueued(send, count=1)
    with pytest.raises(AssertionError, match=r"1 jobs other\(\.\.\.\) are enqueued, none should be"):
        stage.refute_enqueued("other")


def test_a_failure_shows_no_more_than_one_can_read(stage: Stage, d: Dispatcher) -> None:
    with pytest.raises(AssertionError, match="nothing is enqueued"):
        stage.assert_enqueued("k")
    for n in range(30):
        d.push("k", "x" * 10_000 + str(n))
    with pytest.raises(AssertionError, match="and 20 more") as caught:
        stage.assert_enqueued("other")
    assert len(str(caught.value)) < 5000


# ---- inline ------------------------------------------------------------------------------------------


def test_inline_jobs_run_as_they_are_pushed() -> None:
    with Stage(inline=True) as stage:
        d = stage.dispatcher
        ran: list[Any] = []

        @d.handler
        def outer() -> None:
            inner.push()
            ran.append("outer")

        inner = d.handler(kind="inner")(lambda: ran.append("inner"))
        outer.push()
        assert ran == ["outer", "inner"]
        inner.push()
        assert ran == ["outer", "inner", "inner"]
        assert d.handler(kind="twice")(lambda n: 2 * n).push(4).result(0) == 8
        fails = d.handler(kind="fails")(lambda: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            fails.push()
        stage.inline = False
        inner.push()
        assert len(ran) == 3


def test_a_stage_ends_once(stage: Stage) -> None:
    stage.close()
    stage.close()
    with pytest.raises(forebay.ClosedError):
        stage.dispatcher.push("k")


# ---- async handlers ----------------------------------------------------------------------------------


def test_coroutines_run_to_their_end(stage: Stage, d: Dispatcher) -> None:
    loops: set[int] = set()

    @d.handler(max_attempts=2, retry="none")
    async def greets(name: str) -> str:
        loops.add(id(asyncio.get_running_loop()))
        await asyncio.sleep(0)
        if name == "bad":
            raise ValueError(name)
        await follows.apush(name)
        return f"hello {name}"

    @d.handler(pass_job=True)
    async def follows(job: Job, name: str) -> int:
        await asyncio.sleep(0)
        return job.attempt

    handles = [greets.push("ann"), greets.push("bad")]
    report = stage.drain()
    assert (report.succeeded, report.failed, report.retried) == (2, 1, 1)
    assert handles[0].result(0) == "hello ann"
    # What is bound to a loop is good for the next drain as well.
    greets.push("bob")
    stage.drain()
    assert len(loops) == 1
    assert stage.perform(greets, "cid").result == "hello cid"
    greets.push("bad")
    with pytest.raises(ValueError, match="bad") as caught:
        stage.drain(raise_failures=True)
    assert caught.traceback[-1].name == "greets"


def test_a_running_loop_is_used(stage: Stage, d: Dispatcher) -> None:
    @d.handler
    async def where() -> int:
        await asyncio.sleep(0)
        return id(asyncio.get_running_loop())

    here = d.handler(kind="here")(lambda: threading.get_ident())

    async def test() -> None:
        first, second = where.push(), here.push()
        with pytest.raises(InvalidError, match="adrain"):
            stage.drain()
        report = await stage.adrain()
        assert report.left == 0
        assert (first.result(0), second.result(0)) == (id(asyncio.get_running_loop()), threading.get_ident())
        run = await stage.aperform(where)
        assert run.result == id(asyncio.get_running_loop())
        where.push()
        await d.adrain()
        assert stage.waiting() == 0
        async with d as same:
            assert same is d
            where.push()
            assert (await d.astop()).waiting == 1
        where.push()
        await d.arun()
        assert stage.waiting() == 0

    asyncio.run(test())


def test_each_coroutine_has_a_context_of_its_own(stage: Stage, d: Dispatcher) -> None:
    seen = contextvars.ContextVar("seen", default=0)

    @d.handler
    async def counts() -> int:
        seen.set(seen.get() + 1)
        await asyncio.sleep(0)
        return seen.get()

    handles = [counts.push(), counts.push()]
    stage.drain()
    assert [handle.result(0) for handle in handles] == [1, 1]
    assert seen.get() == 0
