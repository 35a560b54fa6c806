"""Full queues: reject, wait, give the rest back."""

from __future__ import annotations

import threading
from collections.abc import Callable

import forebay
import pytest
from conftest import LIMIT, Gate
from forebay import Dispatcher

Opened = Callable[..., Dispatcher]


def test_a_full_queue_rejects(opened: Opened) -> None:
    d = opened(capacity=2)
    d.push_many([("x", 1), ("x", 2)])
    with pytest.raises(forebay.QueueFull, match="2 of 2 jobs wait"):
        d.push("x", 3)
    d.push("x", 3, queue="another")
    assert d.len() == 2


def test_push_waits_for_room(opened: Opened, gate: Gate) -> None:
    d = opened(capacity=1, concurrency=1, on_full="block(600s)")
    d.handler(kind="x")(lambda n: gate.enter())
    d.start()
    d.push("x", 1)
    gate.reached()
    d.push("x", 2)
    with pytest.raises(forebay.QueueFull):
        d.push("x", 3, wait=0)
    with pytest.raises(forebay.QueueFull, match="no room came in time"):
        d.push("x", 3, wait=0.01)
    pushed: list[forebay.Handle[object]] = []
    waiting = threading.Thread(target=lambda: pushed.append(d.push("x", 3)))
    waiting.start()
    gate.open()
    d.push("x", 4, wait=LIMIT)
    waiting.join(LIMIT)
    pushed[0].result(LIMIT)
    d.drain(LIMIT)
    assert d.stats()["queues"]["default"]["succeeded"] == 4


def test_push_many_tells_what_was_accepted(opened: Opened) -> None:
    d = opened(capacity=3)
    with pytest.raises(forebay.QueueFull) as caught:
        d.push_many(("x", n) for n in range(5))
    pushed: list[forebay.Handle[object]] = caught.value.pushed  # type: ignore[attr-defined]
    assert [h.job().payload for h in pushed] == [0, 1, 2]
    with pytest.raises(forebay.InvalidError):
        d.push_many([("x", 1), ("", 2)])
    d.handler(kind="x")(lambda n: None)
    d.start()
    assert len(d.push_many([("x", n) for n in range(100)], wait=LIMIT)) == 100
    d.drain(LIMIT)
    assert d.stats()["queues"]["default"]["pushed"] == 103


def test_a_handler_must_not_wait_for_ever_for_its_own_queue(opened: Opened) -> None:
    d = opened(capacity=1, concurrency=1)

    @d.handler(max_attempts=1)
    def greedy() -> list[str]:
        said = []
        d.push("other")
        for wait in (0.01, float("inf")):
            try:
                d.push("other", wait=wait)
            except forebay.ForebayError as error:
                said.append(type(error).__name__)
        return said

    d.start()
    assert greedy.push().result(LIMIT) == ["QueueFull", "WouldDeadlock"]


def test_what_would_wait_for_the_handler_itself(d: Dispatcher) -> None:
    @d.handler(pass_job=True, max_attempts=1)
    def selfish(job: forebay.Job) -> list[str]:
        said = []
        for call in (d.stop, d.drain, forebay.Handle.result.__get__(handle)):
            try:
                call()
            except forebay.WouldDeadlock as error:
                said.append(str(error).split(";")[0])
        return said

    handle = selfish.push()
    d.start()
    assert handle.result(LIMIT) == [
        "stop waits for the handler that calls it",
        "a handler cannot wait for itself to end",
        "a handler cannot wait for its own job",
    ]
