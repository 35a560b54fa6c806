"""`forebay.testing.replace` and `redirect`: a stage in the place of what a program has opened for itself."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import forebay
import pytest
from conftest import LIMIT
from forebay import Dispatcher, EncodeError, Handler, InvalidError
from forebay.testing import Stage, redirect, replace


class Program:
    """What a program has at the top of a module."""

    def __init__(self, url: str | Path) -> None:
        self.d = Dispatcher(url, concurrency=3, max_attempts=2)
        self.ran: list[Any] = []
        self.send: Handler[[str], str] = self.d.handler(max_attempts=4, retry="constant(7s)")(self._send)
        self.urgent = self.send.options(priority=9, queue="urgent")
        self.d.configure_queue("urgent", capacity=1)

    def _send(self, to: str) -> str:
        if to == "bad":
            raise ValueError(to)
        self.ran.append(to)
        return to

    _send.__name__ = "send"


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    program = Program(tmp_path / "jobs.db")
    yield program
    program.d.stop(0)


def test_pushes_go_to_the_stage_and_nowhere_else(program: Program) -> None:
    before = program.send.push("before")
    with replace(program.d) as stage:
        handle = program.send.push("ann")
        program.d.push("plain", 1)
        program.d.push_many([("plain", 2)])
        stage.assert_enqueued(program.send, "ann", count=1)
        stage.assert_enqueued("plain", count=2)
        assert program.d.get(handle).kind == "send"
        assert (program.d.len(), program.d.list().total) == (3, 3)
        assert "ann" not in program.ran
        assert stage.drain().succeeded == 1
        assert (program.ran, handle.result(0)) == (["ann"], "ann")
    assert program.d.len() == 1
    assert program.d.get(before).status == "queued"
    program.d.start()
    assert before.result(LIMIT) == "before"
    assert program.send.push("after").result(LIMIT) == "after"


def test_the_stage_has_the_rules_of_the_program(program: Program) -> None:
    with replace(program.d, max_attempts=9) as stage:
        assert stage.dispatcher.concurrency == 3
        assert stage.dispatcher.settings["max_attempts"] == "9"
        program.send.push("bad")
        stage.drain()
        stage.assert_enqueued(program.send, "bad", delay=7, attempt=1)
        assert stage.drain(scheduled=True).failed == 1
        program.urgent.push("one")
        stage.assert_enqueued(program.send, priority=9, queue="urgent")
        with pytest.raises(forebay.QueueFull):
            program.urgent.push("two")


def test_what_cannot_be_written_is_found(program: Program) -> None:
    with replace(program.d) as stage:
        with pytest.raises(EncodeError, match=r"\$\.args\[0\]"):
            program.send.push({1, 2})  # type: ignore[arg-type]
        given = ["a"]
        echo = program.d.handler(kind="echo")(lambda value: value)
        handle = echo.push((1, given))
        given.append("b")
        stage.drain()
        assert handle.result(0) == [1, ["a"]]
        odd = program.d.handler(kind="odd", max_attempts=1)(lambda: object()).push()
        assert [type(error) for error in stage.drain().errors] == [EncodeError]
        assert odd.status == "failed"
    with replace(Dispatcher()) as stage:
        assert stage.dispatcher.push("k", {1, 2}).job().payload == {1, 2}


def test_the_program_may_start_and_stop_what_is_replaced(program: Program) -> None:
    with replace(program.d) as stage:
        threads = threading.active_count()
        with program.d as same:
            assert same is program.d
            program.send.push("ann")
        program.d.start()
        program.d.run()
        assert program.d.stop().waiting == 0
        assert (program.ran, threading.active_count()) == (["ann"], threads)
        program.send.push("bob")
        program.d.drain()
        assert program.ran == ["ann", "bob"]
        assert stage.waiting() == 0
    assert not program.d.stopping


def test_every_thread_sees_the_stage(program: Program) -> None:
    with replace(program.d) as stage:
        threads = [threading.Thread(target=program.send.push, args=(str(n),)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT)
        stage.assert_enqueued(program.send, count=8)


def test_an_event_loop_pushes_to_the_stage(program: Program) -> None:
    async def pushes() -> None:
        await program.send.apush("ann")
        await program.d.apush("plain", 1)

    with replace(program.d) as stage:
        asyncio.run(pushes())
        stage.assert_enqueued(program.send, "ann")
        stage.assert_enqueued("plain", 1)
    with replace(program.d, inline=True):
        asyncio.run(pushes())
        assert program.ran == ["ann"]


def test_handlers_that_come_in_the_block_stay(program: Program) -> None:
    with replace(program.d) as stage:
        late = program.d.handler(kind="late", max_attempts=6)(lambda: "late")
        program.d.declare("declared", max_attempts=7)
        late.push()
        assert stage.drain().succeeded == 1
    with replace(program.d) as stage:
        late.push()
        (job,) = stage.enqueued(late)
        (run,) = stage.drain().runs
        assert (run.job.id, run.job.max_attempts) == (job.id, 6)
    program.d.start()
    assert late.push().result(LIMIT) == "late"


def test_each_block_is_a_new_stage(program: Program) -> None:
    with replace(program.d) as stage:
        program.send.push("ann")
        gone = weakref.ref(stage.dispatcher)
        with pytest.raises(InvalidError, match="replaced already"), replace(program.d):
            raise AssertionError("unreachable")
    with replace(program.d) as stage:
        stage.refute_enqueued()
    del stage
    gc.collect()
    assert gone() is None


def test_a_failing_test_puts_the_dispatcher_back(program: Program) -> None:
    with pytest.raises(ZeroDivisionError), replace(program.d):
        raise ZeroDivisionError
    assert type(program.d) is Dispatcher
    assert program.send.push("ann").durability == "disk"


class Own(Dispatcher):
    """A program's own class."""

    def __new__(cls, prefix: str) -> Self:
        return super().__new__(cls)

    def __init__(self, prefix: str) -> None:
        super().__init__()
        self.prefix = prefix

    def push(self, kind: str, *args: Any, **options: Any) -> Any:
        """Pushes with a prefix."""
        return super().push(self.prefix + kind, *args, **options)

    def greet(self) -> Any:
        """Pushes a greeting."""
        return self.push("greet")


def test_a_class_of_the_programs_own_stays_what_it_is() -> None:
    d = Own("my.")
    with replace(d) as stage:
        assert isinstance(d, Own)
        d.greet()
        d.push("other")
        assert [job.kind for job in stage.enqueued()] == ["my.greet", "my.other"]
    assert d.len() == 0


def test_two_dispatchers_pass_jobs_to_each_other(program: Program) -> None:
    other = Dispatcher()
    relay = other.handler(kind="relay")(lambda to: program.send.push(to).id.hex)
    with replace(program.d) as here, replace(other) as there:
        relay.push("ann")
        there.drain()
        assert here.drain().succeeded == 1
    assert program.ran == ["ann"]


def test_redirected_dispatchers_touch_no_file(tmp_path: Path) -> None:
    file = tmp_path / "no" / "such" / "folder.db"
    with redirect():
        first = Program(file)
        second = Dispatcher(f"sqlite:{file}?shared=true&max_attempts=6")
        third = Dispatcher("memory:", clock="manual")
    assert (second.settings["max_attempts"], second.settings["shared"]) == ("6", "false")
    assert third.settings["clock"] == "manual"
    with pytest.raises(EncodeError):
        first.d.push("k", {1})
    third.push("k", {1})
    with first.d:
        assert first.send.push("ann").result(LIMIT) == "ann"
    with pytest.raises(forebay.StorageError):
        Dispatcher(file)


def test_a_stage_for_its_own_sake_is_left_to_the_collector() -> None:
    gone = weakref.ref(Stage().dispatcher)
    gc.collect()
    assert gone() is None
