"""A job's way: push, run, result."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forebay
import pytest
from conftest import LIMIT, Gate
from forebay import Dispatcher


def test_push_run_result(d: Dispatcher) -> None:
    @d.handler
    def greet(name: str, mark: str = "!") -> str:
        return f"hello {name}{mark}"

    assert greet("you") == "hello you!", "a handler stays a function"
    d.start()
    assert greet.push("world", mark="?").result(LIMIT) == "hello world?"
    assert d.push("greet", "there").result(LIMIT) == "hello there!"


def test_values_travel_by_reference(d: Dispatcher) -> None:
    @d.handler
    def same(value: object) -> object:
        return value

    d.start()
    thing = object()
    assert same.push(thing).result(LIMIT) is thing
    assert d.push("same", thing).result(LIMIT) is thing
    assert d.push("same").result(LIMIT) is None
    big = b"\xff\x00" * 40_000
    for octets in (b"", b"\x00{not json", big):
        result = d.push("same", octets).result(LIMIT)
        assert type(result) is bytes
        assert result == octets


def test_the_context_manager_starts_and_stops() -> None:
    with Dispatcher(concurrency=2) as d:
        seen = d.handler(kind="seen")(threading.get_ident)
        assert seen.push().result(LIMIT) != threading.get_ident()
        workers = list(d._threads)
        assert [t in threading.enumerate() for t in workers] == [True, True]
        assert all(t.name.startswith("forebay-worker-") for t in workers)
        assert not any(t.daemon for t in workers)
    assert d.stopping
    assert not any(t.is_alive() for t in workers)
    with pytest.raises(forebay.ClosedError, match="has stopped"):
        d.push("seen")


def test_a_run_that_is_stopped_before_it_starts_returns() -> None:
    class Early(Dispatcher):
        def start(self, *args: Any, **options: Any) -> None:
            # As the handler of a signal does, or another thread.
            self.request_stop()
            super().start(*args, **options)

    d = Early(concurrency=2)
    waiting = d.handler(kind="k")(lambda: None).push()
    d.run()
    assert (d.stopping, waiting.status) == (True, "queued")
    with pytest.raises(forebay.ClosedError):
        d.run()


def test_handles(d: Dispatcher, gate: Gate) -> None:
    @d.handler
    def wait() -> int:
        gate.enter()
        return 7

    handle = wait.push()
    assert isinstance(handle.id, uuid.UUID)
    assert handle.id.version == 7
    assert (handle.status, handle.created) == ("queued", True)
    with pytest.raises(forebay.WaitTimeout, match="still queued"):
        handle.result(timeout=0)
    d.start()
    gate.reached()
    assert handle.status == "running"
    gate.open()
    assert handle.result(LIMIT) == 7
    assert handle.status == "succeeded"
    info = handle.job()
    assert (info.id, info.kind, info.result, info.finished) == (handle.id, "wait", 7, True)
    assert [a.error for a in info.history] == [None]
    assert {handle, d.push("x", id=handle.id)} == {handle}


def test_a_failed_job_tells_why(d: Dispatcher) -> None:
    @d.handler(max_attempts=2)
    def bad(secret: int) -> float:
        return secret / 0

    d.start()
    with pytest.raises(forebay.JobFailed) as caught:
        bad.push(1).result(LIMIT)
    error = caught.value
    assert (error.kind, error.attempts, error.job_kind) == ("error", 2, "bad")
    assert error.message.startswith("ZeroDivisionError: division by zero\nTraceback")
    assert "return secret / 0" in error.message
    assert "ZeroDivisionError" in str(error)


def test_a_job_is_tried_again(d: Dispatcher) -> None:
    @d.handler(max_attempts=5, pass_job=True)
    def third_time(job: forebay.Job, name: str) -> tuple[str, int, int]:
        if job.attempt < 3:
            raise ConnectionError("not yet")
        return name, job.attempt, job.max_attempts

    d.start()
    handle = third_time.push("x")
    assert handle.result(LIMIT) == ("x", 3, 5)
    assert [a.error_kind for a in handle.job().history] == ["error", "error", None]


def test_a_class_is_called_fresh_each_time(d: Dispatcher) -> None:
    class Count:
        def __init__(self) -> None:
            self.n = 0

        def __call__(self, by: int) -> int:
            self.n += by
            return self.n

    count = d.handler(Count)
    d.start()
    assert count.kind == "Count"
    assert [count.push(2).result(LIMIT) for _ in range(3)] == [2, 2, 2]
    assert count(5) == 5


def test_drain_waits_for_what_runs(d: Dispatcher) -> None:
    done: list[int] = []
    d.handler(kind="note")(done.append)
    for i in range(1000):
        d.push("note", i)
    with pytest.raises(forebay.WaitTimeout, match="1000 jobs"):
        d.drain(timeout=0)
    d.start(threads=1)
    d.drain(LIMIT)
    assert done == list(range(1000)), "first in, first out"


def test_the_wrong_arguments_are_refused_where_they_are_seen(d: Dispatcher) -> None:
    @d.handler(max_attempts=1)
    def takes_one(number: int) -> int:
        return number + 1

    d.start()
    exact = 9_007_199_254_740_993
    assert takes_one.push(exact).result(LIMIT) == exact + 1
    assert takes_one.push(1.5).result(LIMIT) == 2.5  # type: ignore[arg-type]
    push: Callable[..., forebay.Handle[Any]] = takes_one.push
    for args, named, why in (
        ((1, 2), {}, "too many positional"),
        ((), {}, "missing a required argument: 'number'"),
        ((), {"nomber": 1}, "missing a required argument: 'number'"),
        ((1,), {"number": 1}, "multiple values for argument 'number'"),
    ):
        with pytest.raises(TypeError, match=why):
            push(*args, **named)
    with pytest.raises(forebay.JobFailed, match="TypeError") as caught:
        push("1").result(LIMIT)
    assert caught.value.attempts == 1


def test_what_a_block_leaves_behind_is_not_lost_in_silence(tmp_path: Path) -> None:
    with pytest.warns(RuntimeWarning, match="2 jobs still waited and are lost"), Dispatcher() as d:
        d.push_many([("nobody", 1), ("nobody", 2)])
    with Dispatcher(dump_file=tmp_path / "jobs.dump") as d:
        d.push("nobody", 1)
    with Dispatcher(dump_file=tmp_path / "jobs.dump") as d:
        assert d.len() == 1, "a dump file keeps it, so there is nothing to warn of"
