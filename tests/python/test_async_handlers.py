"""Coroutines as handlers: what may be one, and what it can do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import forebay
import pytest
from conftest import LIMIT
from forebay import AsyncHandler, AsyncJobHandler, Dispatcher, Handler, Job


async def double(n: int = 4) -> int:
    await asyncio.sleep(0)
    return n * 2


class Later:
    """An object, or a class, whose call makes a coroutine."""

    def __init__(self) -> None:
        self.calls = 0

    async def __call__(self, n: int = 4) -> int:
        self.calls += 1
        await asyncio.sleep(0)
        return n * 2 * self.calls


class Promise:
    """An awaitable that is no coroutine."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __await__(self) -> Any:
        yield from asyncio.sleep(0).__await__()
        return self.n * 2


FORMS: dict[str, Callable[[], Callable[..., Any]]] = {
    "function": lambda: double,
    "partial": lambda: partial(double, 4),
    "partial of a partial": lambda: partial(partial(double), n=4),
    "object": Later,
    "partial of an object": lambda: partial(Later(), 4),
    "method": lambda: Later().__call__,
    "class": lambda: Later,
}
"""What makes each of them anew: an object counts its calls."""


@pytest.mark.parametrize("form", FORMS)
def test_what_makes_coroutines_is_found_out(d: Dispatcher, form: str) -> None:
    handler = d.handler(kind="k")(FORMS[form]())
    assert type(handler) is AsyncHandler
    assert isinstance(handler, Handler)
    d.start()
    assert handler.push().result(LIMIT) == 8


def test_each_attempt_of_a_class_has_its_instance(d: Dispatcher) -> None:
    handler = d.handler(Later)
    d.start()
    assert [handler.push(n).result(LIMIT) for n in (1, 2)] == [2, 4]


def test_a_call_makes_the_coroutine_here(d: Dispatcher) -> None:
    handler = d.handler(double)
    assert asyncio.run(handler(3)) == 6
    assert handler.__wrapped__ is double


def test_sync_and_async_side_by_side(d: Dispatcher) -> None:
    later = d.handler(double)

    @d.handler
    def halve(n: int) -> int:
        return n // 2

    d.start()
    handles = [kind.push(n) for n in range(100) for kind in (later, halve)]
    want = [n for n in range(100) for n in (n * 2, n // 2)]
    assert [handle.result(LIMIT) for handle in handles] == want
    assert sorted(thread.name for thread in d._threads) == [f"forebay-worker-{n}" for n in range(4)]


def test_a_kind_changes_from_one_to_the_other(d: Dispatcher) -> None:
    d.start()
    for _ in range(3):
        later = d.handler(kind="k")(double)
        assert [later.push(n).result(LIMIT) for n in range(10)] == [2 * n for n in range(10)]
        sync = d.handler(kind="k")(lambda n: -n)
        assert [sync.push(n).result(LIMIT) for n in range(10)] == [-n for n in range(10)]


def test_a_handler_takes_its_job(d: Dispatcher) -> None:
    @d.handler(pass_job=True, max_attempts=3)
    async def tells(job: Job, what: str) -> list[Any]:
        await asyncio.sleep(0)
        job.check()
        job.extend(60)
        return [job.kind, job.attempt, what, job.cancelled, job.stop_reason]

    assert type(tells) is AsyncJobHandler
    d.start()
    assert tells.push("a").result(LIMIT) == ["tells", 1, "a", False, None]


def test_bytes_and_values_by_name(d: Dispatcher) -> None:
    @d.handler
    async def both(a: object, *, b: object = None) -> object:
        return a, b

    d.start()
    thing = object()
    assert both.push(thing, b=b"x").result(LIMIT) == (thing, b"x")
    assert d.push("both", thing).result(LIMIT) == (thing, None)


@pytest.mark.parametrize("suspends", [False, True])
def test_what_is_raised_decides(d: Dispatcher, suspends: bool) -> None:
    """As in a sync handler."""

    @d.handler(max_attempts=2)
    async def raises(error: BaseException) -> None:
        if suspends:
            await asyncio.sleep(0)
        raise error

    d.start()
    for error, kind, attempts in (
        (ValueError("bad"), "error", 2),
        (GeneratorExit(), "panic", 2),
        (StopIteration(1), "error", 2),
        (asyncio.CancelledError("whim"), "error", 2),
        (forebay.Fatal("no"), "fatal", 1),
        (forebay.Retry(after=0.001, reason="again"), "over_max_attempts", 2),
    ):
        handle = raises.push(error)
        with pytest.raises(forebay.JobFailed) as caught:
            handle.result(LIMIT)
        assert (caught.value.kind, handle.job().attempt) == (kind, attempts), error
    assert error.__traceback__ is None


def test_what_cannot_be_called_with_its_payload_fails(d: Dispatcher) -> None:
    handler = d.handler(max_attempts=1, kind="k")(double)

    @d.handler(max_attempts=1)
    async def takes_nothing() -> None: ...

    d.start()
    with pytest.raises(TypeError, match="unexpected keyword"):
        handler.push(m=1)  # type: ignore[call-arg]
    with pytest.raises(forebay.JobFailed, match="takes 0 positional"):
        d.push("takes_nothing", 1).result(LIMIT)
    assert handler.push(2).result(LIMIT) == 4


def test_an_awaitable_of_any_kind_is_run(d: Dispatcher) -> None:
    @d.handler
    async def through(n: int) -> int:
        first: Awaitable[int] = Promise(n)
        return await first

    d.start()
    assert through.push(3).result(LIMIT) == 6


def test_snooze_gives_the_attempt_back(d: Dispatcher) -> None:
    runs = 0

    @d.handler(max_attempts=1)
    async def not_yet() -> int:
        nonlocal runs
        runs += 1
        await asyncio.sleep(0)
        if runs < 3:
            raise forebay.Snooze(0.001)
        return runs

    d.start()
    assert not_yet.push().result(LIMIT) == 3
