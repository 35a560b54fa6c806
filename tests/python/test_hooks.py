"""What is called around attempts and before pushes."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import weakref
from collections.abc import Callable
from contextvars import ContextVar, Token
from pathlib import Path
from typing import Any

import pytest
from conftest import LIMIT
from forebay import Dispatcher, Handle, InvalidError, Job, QueueFull, Retry

Opened = Callable[..., Dispatcher]
Answer = tuple[Handle[Any] | None, BaseException | None]


class Book:
    """A hook of pushes that notes them, and what became of them."""

    def __init__(self) -> None:
        self.pushes: list[tuple[str, str]] = []
        self.answers: list[Answer] = []

    def __call__(self, kind: str, queue: str, headers: dict[str, str]) -> Callable[..., None]:
        self.pushes.append((kind, queue))
        headers["number"] = str(len(self.pushes))
        return lambda handle, error: self.answers.append((handle, error))


def test_a_push_gets_headers(opened: Opened) -> None:
    d, book = opened(), Book()
    d.add_hooks(push=book)

    @d.handler
    def f(x: int) -> None: ...

    pushed = [
        d.push("raw"),
        f.push(1),
        f.options(queue="other", headers={"mine": "yes", "number": "0"}).push(2),
        *d.push_many([("raw", 3), {"kind": "raw", "queue": "third", "headers": {"mine": "no"}}]),
    ]
    assert book.pushes == [
        ("raw", "default"),
        ("f", "default"),
        ("f", "other"),
        ("raw", "default"),
        ("raw", "third"),
    ]
    assert [handle.job().headers for handle in pushed] == [
        {"number": "1"},
        {"number": "2"},
        {"mine": "yes", "number": "3"},
        {"number": "4"},
        {"mine": "no", "number": "5"},
    ]
    assert book.answers == [(handle, None) for handle in pushed]


def test_a_push_that_is_refused_is_told(opened: Opened) -> None:
    d, book = opened(capacity=2), Book()
    d.add_hooks(push=book)
    with pytest.raises(QueueFull) as refused:
        d.push_many([("k", n) for n in range(4)])
    with pytest.raises(QueueFull):
        d.push("k")
    assert [handle is not None for handle, _ in book.answers] == [True, True, False, False, False]
    assert [handle for handle, _ in book.answers[:2]] == refused.value.__dict__["pushed"]
    assert all(isinstance(error, QueueFull) for _, error in book.answers[2:])


def test_a_push_that_is_awaited_is_told(opened: Opened, tmp_path: Path) -> None:
    async def main(d: Dispatcher, book: Book) -> None:
        handle = await d.apush("k", 1)
        with pytest.raises(QueueFull):
            await d.apush("k", 2)
        # What is told by a callback of the loop is told soon, not at once.
        await asyncio.sleep(0)
        assert book.answers[0] == (handle, None)
        assert isinstance(book.answers[1][1], QueueFull)

    for url in ("memory:", tmp_path / "jobs.db"):
        d, book = opened(url=url, capacity=1), Book()
        d.add_hooks(push=book)
        asyncio.run(main(d, book))
        assert d.list().jobs[0].headers == {"number": "1"}


def test_a_hook_that_raises_is_not_in_the_way(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[type[BaseException] | None] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: told.append(args.exc_type))
    d = opened()

    def poor(kind: str, queue: str, headers: dict[str, str]) -> Callable[..., None]:
        headers["fine"] = "1"
        return lambda handle, error: [][0]

    d.add_hooks(push=lambda kind, queue, headers: headers.pop("no"))  # type: ignore[arg-type, return-value]
    d.add_hooks(push=poor)
    assert d.push("k").job().headers == {"fine": "1"}
    d.add_hooks(push=lambda kind, queue, headers: headers.update(odd=1))  # type: ignore[call-overload]
    assert d.push("k").job().headers == {}
    assert told == [KeyError, IndexError, KeyError, TypeError, IndexError]


def test_hooks_share_the_context_of_the_handler(opened: Opened) -> None:
    who: ContextVar[str] = ContextVar("who", default="nobody")
    seen: list[str] = []
    d = opened()
    d.add_hooks(
        before=lambda job: who.set(f"{job.kind} {job.attempt}"),
        after=lambda job, outcome, seconds: seen.append(who.get()),
    )

    @d.handler(max_attempts=2)
    def f() -> str:
        seen.append(who.get())
        if len(seen) == 1:
            raise Retry
        return who.get()

    with d:
        assert f.push().result(LIMIT) == "f 2"
    assert seen == ["f 1", "f 1", "f 2", "f 2"]


def test_what_a_handler_raised_is_known_after_it(opened: Opened) -> None:
    seen: list[tuple[str, BaseException | None, bool]] = []
    kept: list[BaseException] = []

    def after(job: Any, outcome: str, seconds: float) -> None:
        error = sys.exception()
        seen.append((outcome, error, error is not None and error.__traceback__ is not None))
        if error is not None:
            kept.append(error)

    d = opened()
    d.add_hooks(after=after)
    # One each: of two threads that raise the same one, the first that ends takes the traceback away.
    failures = [ValueError("no"), ValueError("never")]

    @d.handler(max_attempts=1)
    def f(n: int | None) -> None:
        if n is not None:
            raise failures[n]

    with d:
        for n in (0, None, 1):
            f.push(n)
        d.drain(LIMIT)
    ends = [("failed", failures[0], True), ("success", None, False), ("failed", failures[1], True)]
    assert sorted(map(repr, seen)) == sorted(map(repr, ends))
    # Nothing of the attempt is held any more.
    assert [error.__traceback__ for error in kept] == [None, None]


def test_a_hook_may_hold_its_dispatcher() -> None:
    def hook(d: Dispatcher) -> Callable[[str, str, dict[str, str]], None]:
        return lambda kind, queue, headers: d.check_open()

    d = Dispatcher()
    gone = weakref.ref(d)
    d.add_hooks(push=hook(d))
    d.push("k")
    del d
    gc.collect()
    assert gone() is None


def test_a_stream_of_what_matters(opened: Opened) -> None:
    d = opened()
    with pytest.raises(InvalidError, match='level is "loud"'):
        d.subscribe(level="loud")  # type: ignore[arg-type]
    all_of_it, grave = d.subscribe(), d.subscribe(level="error")

    @d.handler(max_attempts=1)
    def f() -> None:
        raise ValueError

    f.push()
    with d:
        d.drain(LIMIT)
    assert [event.kind for event in all_of_it][:3] == ["pushed", "started", "failed"]
    assert [event.kind for event in grave] == ["failed"]


def test_a_closed_stream_ends_a_wait(opened: Opened) -> None:
    d = opened()
    events = d.subscribe()
    d.push("k")
    seen: list[str] = []
    first = threading.Event()

    def listen() -> None:
        for event in events:
            seen.append(event.kind)
            first.set()

    thread = threading.Thread(target=listen)
    thread.start()
    assert first.wait(LIMIT)
    events.close()
    thread.join(LIMIT)
    assert not thread.is_alive()
    d.push("k")
    assert seen == ["pushed"]
    assert events.next(0) is None


def test_hooks_share_the_context_of_a_coroutine(opened: Opened) -> None:
    who: ContextVar[str] = ContextVar("who", default="nobody")
    tokens: ContextVar[Token[str]] = ContextVar("tokens")
    seen: dict[str, list[object]] = {}
    d = opened(concurrency=4)

    def before(job: Job) -> None:
        tokens.set(who.set(f"{job.kind} {job.payload['args'][0]}"))

    def after(job: Job, outcome: str, seconds: float) -> None:
        seen[who.get()] += [outcome, sys.exception()]
        # Only in the context that it comes from may a token be used.
        who.reset(tokens.get())

    d.add_hooks(before=before, after=after)
    failure = ValueError("no")
    met = 0

    async def main() -> None:
        every = asyncio.Event()

        @d.handler(max_attempts=1)
        async def f(n: int) -> None:
            nonlocal met
            name = who.get()
            met += 1
            if met == 3:
                every.set()
            await every.wait()
            seen[name] = [name == who.get()]
            if n == 1:
                raise failure

        @d.handler
        async def g(n: int) -> None:
            seen[who.get()] = [True]

        async with d:
            for n in range(3):
                f.push(n)
            await g.push(9)
            await d.adrain(LIMIT)
        assert who.get() == "nobody"

    asyncio.run(main())
    assert seen == {
        "f 0": [True, "success", None],
        "f 1": [True, "failed", failure],
        "f 2": [True, "success", None],
        "g 9": [True, "success", None],
    }
    assert failure.__traceback__ is None
    assert d.stats()["hook_failures"] == 0
