"""What owners and operators do with jobs and queues."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import forebay
import pytest
from conftest import LIMIT, Gate
from forebay import Dispatcher

Opened = Callable[..., Dispatcher]


def test_cancel(opened: Opened, gate: Gate) -> None:
    d = opened(concurrency=1)
    noticed = threading.Event()

    @d.handler(pass_job=True)
    def work(job: forebay.Job) -> str:
        gate.enter()
        while not job.cancelled:
            pass
        assert job.stop_reason == "cancelled"
        noticed.set()
        with pytest.raises(forebay.JobCancelled, match="should stop"):
            job.check()
        return "done all the same"

    running, waiting = work.push(), work.push()
    d.start()
    gate.reached()
    gate.open()
    assert (waiting.cancel(), waiting.status) == ("cancelled", "cancelled")
    assert d.cancel(running) == "running"
    assert running.job().cancel_requested
    assert noticed.wait(LIMIT)
    with pytest.raises(forebay.JobCancelled) as caught:
        running.result(LIMIT)
    assert caught.value.kind == "cancelled"
    assert waiting.cancel() == "cancelled"


def test_a_finished_job_runs_again(d: Dispatcher) -> None:
    @d.handler(max_attempts=1)
    def half(n: int) -> float:
        return n / 2

    d.start()
    failed = d.push("half", "x", priority=3)
    with pytest.raises(forebay.JobFailed):
        failed.result(LIMIT)
    again = d.retry(failed, 5)
    assert again.result(LIMIT) == 2.5
    assert (again.job().priority, again.created, d.retry(failed.id, 5).id) == (3, True, again.id)
    assert failed.status == "failed", "no edge leaves a final state"
    with pytest.raises(forebay.KeyConflict, match="retried before with another input"):
        d.retry(failed, 6)
    with pytest.raises(forebay.InvalidError, match="give an input"):
        d.retry(again)
    with pytest.raises(forebay.InvalidError, match="only a finished job"):
        d.retry(d.push("half", 1, delay=60))
    with pytest.raises(TypeError, match="at most one input"):
        d.retry(failed, 1, 2)


def test_another_jobs_cancel_does_not_cancel_the_one_that_waits_for_it(d: Dispatcher) -> None:
    d.pause("aside")
    inner = d.push("never", queue="aside")
    inner.cancel()

    @d.handler(max_attempts=1)
    def outer() -> None:
        inner.result()

    d.start()
    with pytest.raises(forebay.JobFailed) as caught:
        outer.push().result(LIMIT)
    assert type(caught.value) is forebay.JobFailed
    assert "JobCancelled" in caught.value.message


def test_pause_resume_purge_and_len(d: Dispatcher) -> None:
    ran: list[int] = []
    d.handler(kind="note")(ran.append)
    d.pause("mail")
    d.start()
    handles = [d.push("note", n, queue="mail") for n in range(3)]
    assert d.len("mail") == 3
    assert d.len() == 0
    assert "paused" in d.explain(handles[0].id)
    assert d.stats()["queues"]["mail"]["paused"] is True
    d.resume("mail")
    d.drain(LIMIT)
    assert sorted(ran) == [0, 1, 2]
    d.pause("mail")
    [d.push("note", n, queue="mail") for n in range(5)]
    assert d.purge("mail") == 5
    assert d.len("mail") == 0
    assert d.list(queue="mail", status="cancelled").total == 5


def test_list(d: Dispatcher) -> None:
    early = d.push("a", 1)
    for n in range(30):
        d.push("b", n, queue="other", key=f"key-{n}")
    page = d.list()
    assert (len(page.jobs), page.total) == (20, 31)
    assert page.jobs[0].payload == 29, "newest first"
    rest = d.list(after=page.jobs[-1].id)
    assert [job.payload for job in rest.jobs] == [*range(9, -1, -1), 1]
    assert d.list(kind="a").jobs[0].id == early.id
    assert d.list(queue="other", limit=3).total == 30
    assert d.list(key="key-7").jobs[0].payload == 7
    assert d.list(status=("queued", "running")).total == 31
    assert d.list(status="failed").jobs == []
    hour = timedelta(hours=1)
    assert d.list(created_from=datetime.now(UTC) + hour).total == 0
    assert d.list(created_before=datetime.now(UTC) + hour).total == 31


def test_explain_and_signal(d: Dispatcher) -> None:
    handle = d.push("work", waits_for=["paid", "packed"])
    assert "it waits for paid, packed" in d.explain(handle.id)
    d.signal(handle.id, "packed")
    assert handle.job().waits_for == ["paid"]
    assert handle.status == "blocked"
    d.signal(handle, "paid")
    assert "no handler" in d.explain(handle)
    d.handler(kind="work")(lambda _: "sent")
    d.start()
    assert handle.result(LIMIT) == "sent"


def test_stats_and_metrics(d: Dispatcher) -> None:
    d.handler(kind="ok")(lambda: None)
    d.handler(kind="bad", max_attempts=1)(lambda: 1 / 0)
    d.start()
    d.push_many([{"kind": "ok"}])
    d.handler(kind="ok")(lambda: None).push()
    d.drain(LIMIT)
    stats = d.stats()
    counts = stats["queues"]["default"]
    assert counts["pushed"] == counts["succeeded"] + counts["failed"] + counts["queued"] + counts["scheduled"]
    assert stats["concurrency"] == 4
    assert 'forebay_succeeded_total{queue="default"}' in d.metrics()


def test_events(d: Dispatcher) -> None:
    events = d.subscribe(100)
    few = d.subscribe(1)
    handle = d.handler(kind="bad", max_attempts=2)(lambda: 1 / 0).push()
    d.start()
    with pytest.raises(forebay.JobFailed):
        handle.result(LIMIT)
    got = [events.next(LIMIT) for _ in range(5)]
    assert [e.kind for e in got if e] == ["pushed", "started", "retried", "started", "failed"]
    last = got[-1]
    assert last is not None
    assert [e.level for e in got if e] == ["debug", "debug", "warn", "debug", "error"]
    assert f"job {handle.id}" in last.message
    assert "ZeroDivisionError" in last.message
    assert (last.id, last.queue, last.job_kind, last.attempt, last.failure) == (
        handle.id,
        "default",
        "bad",
        2,
        "error",
    )
    assert last.took is not None
    assert last.at.tzinfo is not None
    assert events.next(timeout=0) is None
    assert few.dropped == 4
    assert len(few.drain()) == 1
    seen: list[str] = []
    reader = threading.Thread(target=lambda: seen.extend(event.kind for event in events))
    reader.start()
    d.push("other")
    d.stop()
    reader.join(LIMIT)
    assert seen == ["pushed", "stopped"], "an iteration ends when the dispatcher has stopped"


def test_hooks(d: Dispatcher) -> None:
    calls: list[tuple[object, ...]] = []
    d.add_hooks(
        before=lambda job: calls.append(("before", job.kind, job.attempt, job.payload)),
        after=lambda job, outcome, seconds: calls.append(("after", job.id, outcome, seconds >= 0)),
    )
    d.handler(kind="twice", pass_job=True, max_attempts=2)(lambda job, x: 1 / (job.attempt - 1))
    d.start()
    handle = d.push("twice", "x")
    handle.result(LIMIT)
    d.drain(LIMIT)
    assert calls == [
        ("before", "twice", 1, "x"),
        ("after", handle.id, "failed", True),
        ("before", "twice", 2, "x"),
        ("after", handle.id, "success", True),
    ]


def test_a_hook_that_raises_changes_no_job(d: Dispatcher, monkeypatch: pytest.MonkeyPatch) -> None:
    unraisable: list[str] = []
    monkeypatch.setattr("sys.unraisablehook", lambda u: unraisable.append(str(u.exc_value)))
    d.add_hooks(before=lambda job: 1 / 0)
    d.start()
    assert d.handler(kind="fine")(lambda: "fine").push().result(LIMIT) == "fine"
    assert d.stats()["hook_failures"] == 1
    assert unraisable == ["division by zero"]


def test_a_job_outlives_its_attempt_as_a_description(d: Dispatcher) -> None:
    kept: list[forebay.Job] = []

    @d.handler(pass_job=True)
    def keep(job: forebay.Job, /, **named: int) -> None:
        job.check()
        job.extend("1h")
        kept.append(job)

    d.start()
    handle = keep.options(headers={"a": "b"}, key="k", queue="q").push(n=1)
    handle.result(LIMIT)
    [job] = kept
    assert (job.id, job.kind, job.queue, job.attempt, job.key) == (handle.id, "keep", "q", 1, "k")
    assert (job.headers, job.payload) == ({"a": "b"}, {"args": [], "kwargs": {"n": 1}})
    assert job.created == handle.job().created
    assert job.cancelled
    assert job.stop_reason is None
    for call in (job.check, lambda: job.extend(1)):
        with pytest.raises(forebay.StaleLease, match="has ended"):
            call()


def test_stop_hands_back_what_outlives_the_grace(opened: Opened, gate: Gate) -> None:
    d = opened(concurrency=1)
    d.handler(kind="stuck")(gate.enter)
    d.start()
    handle = d.handler(kind="stuck")(gate.enter).push()
    gate.reached()
    report = d.stop(grace=0.01)
    assert (report.handed_back, report.waiting) == (1, 1)
    assert d.stop() == report, "a second call reports the same"
    assert handle.status == "queued"
    gate.open()


def test_a_clock_that_stands_still_is_moved(opened: Opened) -> None:
    d = opened(clock="manual(1000)")
    assert d.now() == datetime.fromtimestamp(1, UTC)
    handle = d.push("later", delay=60)
    d.advance(timedelta(seconds=59))
    assert handle.status == "scheduled"
    d.advance(1)
    assert handle.status == "queued"
    assert d.now() == datetime.fromtimestamp(61, UTC)


def test_a_time_that_python_cannot_tell_is_the_last_one_it_can(opened: Opened) -> None:
    d = opened(clock="manual")
    last = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert d.get(d.push("never", delay=float("inf"))).run_at == last
    d.advance(timedelta(days=999_999_999))
    assert d.now() == last


def test_the_clock_of_the_system_is_nobodys_to_move(opened: Opened) -> None:
    with pytest.raises(forebay.UnsupportedError, match="clock=manual"):
        opened().advance(1)
