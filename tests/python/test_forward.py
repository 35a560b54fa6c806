"""Queues whose jobs are passed on: to another dispatcher, or to a function."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forebay
import pytest
from conftest import LIMIT
from forebay import Dispatcher, _forebay, _types

from scripts import ROUNDS, run

Opened = Callable[..., Dispatcher]


class Sink:
    """A function that takes jobs, or says what it is told to say first."""

    def __init__(self, *answers: object) -> None:
        self.taken: list[Any] = []
        self.offered: list[list[Any]] = []
        self._answers = iter(answers)

    def __call__(self, jobs: list[forebay.Job]) -> Any:
        payloads = [job.payload for job in jobs]
        self.offered.append(payloads)
        answer = next(self._answers, None)
        if isinstance(answer, BaseException):
            raise answer
        taken = answer if isinstance(answer, int) else len(payloads)
        self.taken += payloads[: taken if taken <= len(payloads) else 0]
        return answer


def test_the_types_name_every_option() -> None:
    assert list(_types.ForwardOptions.__annotations__) == _forebay.option_names()[3]


def test_a_function_gets_the_jobs_in_order(d: Dispatcher) -> None:
    sink = Sink()
    handles = [d.push("line", n, queue="log") for n in range(100)]
    forwarder = d.forward("log", sink, batch=7)
    for handle in handles:
        assert handle.result(LIMIT) == b"", "there is none"
    assert sink.taken == list(range(100))
    assert max(len(batch) for batch in sink.offered) == 7
    assert (forwarder.delivered, forwarder.refused, forwarder.busy) == (100, 0, 0)
    assert (forwarder.failing_since, forwarder.last_error) == (None, None)
    assert d.stats()["queues"]["log"]["succeeded"] == 100
    forwarder.stop(LIMIT)
    assert d.push("line", 100, queue="log").status == "queued"
    assert sink.taken[-1] == 99


def test_what_a_function_says(d: Dispatcher) -> None:
    sink = Sink(
        2,
        ValueError("the disk is full"),
        forebay.RateLimited("1ms"),
        forebay.Snooze(0),
        forebay.Fatal("never"),
        99,
    )
    handles = [d.push("line", n, queue="log") for n in range(5)]
    forwarder = d.forward("log", sink, retry="constant(1ms)")
    with pytest.raises(forebay.JobFailed) as caught:
        handles[2].result(LIMIT)
    assert (caught.value.kind, caught.value.attempts) == ("fatal", 1)
    assert caught.value.message.endswith("never")
    for n in (0, 1, 3, 4):
        handles[n].result(LIMIT)
    assert sink.taken == [0, 1, 3, 4]
    assert sink.offered[:5] == [[0, 1, 2, 3, 4], *[[2, 3, 4]] * 4]
    assert (forwarder.delivered, forwarder.refused) == (4, 1)
    assert "says that it took 99" in (forwarder.last_error or "")


def test_a_function_that_says_true_has_taken_all(d: Dispatcher) -> None:
    offered: list[list[Any]] = []
    answers = [False, True]

    def sink(jobs: list[forebay.Job]) -> bool:
        offered.append([job.payload for job in jobs])
        return answers.pop(0)

    handles = [d.push("line", n, queue="log") for n in range(3)]
    d.forward("log", sink, retry="constant(1ms)")
    for handle in handles:
        handle.result(LIMIT)
    assert offered == [[0, 1, 2]] * 2


def test_explain_tells_what_is_wrong(d: Dispatcher) -> None:
    def broken(jobs: list[forebay.Job]) -> None:
        raise OSError("no such host")

    handle = d.push("line", queue="log")
    events = d.subscribe()
    forwarder = d.forward("log", broken, retry="constant(1h)")
    while (event := events.next(LIMIT)) is not None and event.kind != "returned":
        pass
    assert event is not None, "it was never handed back"
    assert "OSError: no such host" in d.explain_queue("log")
    assert "broken" in d.explain_queue("log")
    assert "forwarded to" in d.explain(handle)
    assert forwarder.failing_since is not None
    assert forwarder.last_error == "OSError: no such host"
    assert (handle.status, handle.job().attempt) == ("queued", 0)
    with pytest.raises(forebay.InvalidError, match=r"forwarded to .* already"):
        d.forward("log", print)
    for bad, error in (({"batch": 0}, forebay.InvalidError), ({"bach": 1}, forebay.NotFoundError)):
        with pytest.raises(error):
            d.forward("other", print, **bad)  # type: ignore[arg-type]
    with pytest.raises(forebay.InvalidError, match="to_queue"):
        d.forward("other", print, to_queue="there")
    with pytest.raises(TypeError, match="url is a"):
        d.forward("other", 3)  # type: ignore[arg-type]


def test_another_file_takes_the_jobs(opened: Opened, tmp_path: Path) -> None:
    for to in (tmp_path / "central.db", f"sqlite:{tmp_path}/other.db"):
        d = opened()
        noop = d.handler(kind="noop")(lambda *args: None)
        handles = [
            noop.options(queue="outbox", concurrency_key="a", headers={"a": "b"}).push(1, 2),
            d.push("bytes", b"\x00\xff", queue="outbox", priority=3),
        ]
        d.forward("outbox", to, to_queue="incoming", batch=1)
        # From now on by whoever pushes: no thread of ours looks into an object.
        handles.append(d.push("noop", {"an": ["object"]}, queue="outbox"))
        for handle in handles:
            handle.result(LIMIT)
        with pytest.raises(forebay.EncodeError):
            d.push("noop", object(), queue="outbox")
        d.push("noop", object())
        d.stop()
        other = opened(url=to)
        jobs = [other.get(handle.id) for handle in handles]
        assert [job.queue for job in jobs] == ["incoming"] * 3
        assert [job.payload for job in jobs] == [
            {"args": [1, 2], "kwargs": {}},
            b"\x00\xff",
            {"an": ["object"]},
        ]
        assert (jobs[0].concurrency_key, jobs[0].headers, jobs[1].priority) == ("a", {"a": "b"}, 3)
        other.stop()


def test_another_dispatcher_takes_objects_as_they_are(opened: Opened) -> None:
    d, other = opened(), opened()
    thing = object()
    seen: list[object] = []
    other.handler(kind="see")(seen.append)
    handle = d.push("see", thing, queue="outbox")
    d.forward("outbox", other)
    other.start()
    handle.result(LIMIT)
    other.drain(LIMIT)
    assert other.get(handle.id).status == "succeeded"
    assert seen == [thing]


def test_a_stop_waits_for_a_delivery(opened: Opened) -> None:
    d = opened(grace=LIMIT)
    entered, go = threading.Event(), threading.Event()

    def slow(jobs: list[forebay.Job]) -> None:
        entered.set()
        assert go.wait(LIMIT)

    handle = d.push("line", queue="log")
    forwarder = d.forward("log", slow)
    assert entered.wait(LIMIT)
    with pytest.raises(forebay.WaitTimeout):
        forwarder.stop(0.001)
    go.set()
    forwarder.stop(LIMIT)
    assert handle.status == "succeeded"
    d.stop()
    for thread in d._couriers:
        thread.join(LIMIT)
        assert not thread.is_alive()


def test_a_dispatcher_may_go_in_the_midst_of_a_delivery() -> None:
    entered, go = threading.Event(), threading.Event()

    def slow(jobs: list[forebay.Job]) -> None:
        entered.set()
        assert go.wait(LIMIT)

    d = Dispatcher()
    d.forward("log", slow)
    d.push("line", queue="log")
    assert entered.wait(LIMIT)
    (courier,) = d._couriers
    threading.Timer(0.01, go.set).start()
    del d
    courier.join(LIMIT)
    assert not courier.is_alive()


def test_a_function_may_stop_its_dispatcher(d: Dispatcher) -> None:
    stopped = threading.Event()

    def last(jobs: list[forebay.Job]) -> int:
        d.stop(0)
        stopped.set()
        return 0

    handle = d.push("line", queue="log")
    d.forward("log", last)
    assert stopped.wait(LIMIT)
    assert handle.status == "queued"


def test_a_child_of_a_fork_has_no_forwarder() -> None:
    code, out, err = run(
        """
        d = forebay.Dispatcher()
        d.push("line", queue="log")
        forwarder = d.forward("log", lambda jobs: None)
        d.drain(LIMIT)
        child = os.fork()
        if child == 0:
            for call in (forwarder.stop, lambda: d.forward("other", print)):
                try:
                    call()
                except forebay.ForkedError:
                    say("forked")
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        forwarder.stop()
        """
    )
    assert (code, out, err) == (0, "forked\nforked\n", "")


def test_the_interpreter_ends_while_jobs_are_passed_on() -> None:
    for _ in range(ROUNDS):
        code, out, err = run(
            """
            d = forebay.Dispatcher(grace=1)
            enough = threading.Semaphore(0)
            d.forward("log", lambda jobs: enough.release(), batch=2, retry="constant(1ms)")
            d.forward("broken", lambda jobs: 1 / 0, retry="constant(1ms)")
            for n in range(2000):
                d.push("line", object(), queue="log")
                d.push("line", object(), queue="broken")
            for _ in range(100):
                assert enough.acquire(timeout=LIMIT)
            say("passed on")
            """
        )
        assert (code, out, err) == (0, "passed on\n", "")
