"""What a handler says of its kind against overload."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import forebay
import pytest
from conftest import LIMIT
from forebay import Dispatcher

Opened = Callable[..., Dispatcher]


def test_options_of_a_kind_by_name(d: Dispatcher) -> None:
    d.handler(
        kind="all",
        concurrency=2,
        max_attempts="unlimited",
        retry="linear(1s)",
        timeout=timedelta(minutes=1),
        rate=50,
        adaptive="aimd(min=1, max=100)",
        breaker="failures(5, open=30s)",
        retry_budget="share(0.2, floor=1/s)",
    )(print)
    wrong: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"rates": 1}, forebay.NotFoundError, 'nearest is "rate"'),
        ({"rate": "fast"}, forebay.InvalidError, "option rate"),
        ({"breaker": "fuse"}, forebay.InvalidError, "option breaker"),
        ({"concurrency": 1.5}, forebay.InvalidError, "whole number"),
        ({"timeout": []}, TypeError, "option timeout is a "),
    ]
    for bad, error, text in wrong:
        with pytest.raises(error, match=text):
            d.register(print, "bad", **bad)
    d.handler(kind="left", concurrency=None, timeout=None, rate=None, retry="default")(print)


def test_rate_limited_is_no_failure(d: Dispatcher) -> None:
    attempts: list[int] = []
    pauses = iter((timedelta(milliseconds=1), "1ms", None))

    @d.handler(max_attempts=1, pass_job=True)
    def polite(job: forebay.Job) -> str:
        attempts.append(job.attempt)
        if len(attempts) < 4:
            raise forebay.RateLimited(next(pauses))
        return "at last"

    seen: list[str] = []
    d.add_hooks(after=lambda job, outcome, seconds: seen.append(outcome))
    d.start()
    handle = polite.push()
    assert handle.result(LIMIT) == "at last"
    assert attempts == [1, 1, 1, 1], "an attempt that was told to wait is given back"
    d.drain(LIMIT)
    assert seen == ["rate_limited"] * 3 + ["success"]
    counts = d.stats()["queues"]["default"]
    assert (counts["succeeded"], counts["failed"], counts["retried"]) == (1, 0, 0)
    assert [attempt.error for attempt in handle.job().history if attempt.error] == []


def test_a_bad_pause_fails_the_attempt(d: Dispatcher) -> None:
    d.start()

    @d.handler(max_attempts=1)
    def odd() -> None:
        raise forebay.RateLimited("later")

    with pytest.raises(forebay.JobFailed) as caught:
        odd.push().result(LIMIT)
    assert caught.value.message.startswith("InvalidError: retry_after: ")


def test_a_kind_with_a_rate_starts_no_faster(opened: Opened) -> None:
    d = opened(concurrency=4)
    ran = threading.Semaphore(0)
    slow = d.handler(kind="slow", rate="1/h burst=2")(ran.release)
    other = d.handler(kind="other")(lambda: None)
    d.start()
    handles = [slow.push() for _ in range(5)]
    for _ in range(2):
        assert ran.acquire(timeout=LIMIT)
    other.push().result(LIMIT)
    # A handler that has said that it ran need not have ended.
    for handle in handles[:2]:
        handle.result(LIMIT)
    assert [handle.status for handle in handles] == ["succeeded"] * 2 + ["queued"] * 3
    assert "rate" in d.explain(handles[2])


def test_a_breaker_opens_and_is_told_of(opened: Opened) -> None:
    d = opened(concurrency=1, max_attempts=1)
    events = d.subscribe()
    broken = d.handler(kind="broken", breaker="failures(3, open=1h)")(lambda: 1 / 0)
    d.start()
    handles = [broken.push() for _ in range(10)]
    kinds: list[str] = []
    while "breaker_opened" not in kinds:
        event = events.next(LIMIT)
        assert event is not None, "no breaker opened"
        kinds.append(event.kind)
    d.handler(kind="fine")(lambda: "fine").push().result(LIMIT)
    ends = [handle.status for handle in handles]
    assert ends.count("failed") == 3
    assert "breaker" in d.explain(handles[-1])
