"""What may be a handler: what would never run its body is refused where it is registered."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any

import forebay
import pytest
from conftest import LIMIT
from forebay import Dispatcher


async def later_and_later() -> AsyncIterator[int]:
    yield 1


def one_by_one(n: int = 0) -> Iterator[int]:
    yield n


class Generator:
    def __call__(self) -> Iterator[int]:
        yield 1


class NotCallable:
    pass


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (later_and_later, "later_and_later is a generator"),
        (one_by_one, "one_by_one is a generator"),
        (partial(one_by_one, 1), "is a generator"),
        (Generator, "Generator is a generator"),
        (Generator(), "is a generator"),
    ],
    ids=str,
)
def test_what_would_not_run_is_refused(d: Dispatcher, function: Callable[..., Any], why: str) -> None:
    for register in (d.handler, d.handler(kind="named")):
        with pytest.raises(forebay.UnsupportedError, match=why):
            register(function)
    assert d.handler(kind="named")(len).kind == "named", "nothing is left of what was refused"


@pytest.mark.parametrize(
    ("thing", "why"),
    [(3, "3 cannot be a handler: it cannot be called"), (NotCallable, "its instances cannot be called")],
    ids=str,
)
def test_what_cannot_be_called_is_refused(d: Dispatcher, thing: Any, why: str) -> None:
    with pytest.raises(TypeError, match=why):
        d.handler(kind="k")(thing)


def test_a_partial_needs_a_kind(d: Dispatcher) -> None:
    add = partial(pow, 2)
    with pytest.raises(forebay.InvalidError, match=r"functools\.partial.* has no name .*kind="):
        d.handler(add)
    powers = d.handler(kind="powers")(add)
    d.start()
    assert powers.push(10).result(LIMIT) == 1024
    assert powers.__name__ == "powers"


def test_an_object_that_can_be_called_is_a_handler(d: Dispatcher) -> None:
    class Counts:
        def __init__(self) -> None:
            self.calls = 0

        def __call__(self) -> int:
            self.calls += 1
            return self.calls

    counts = d.handler(kind="counts")(Counts())
    d.start(threads=1)
    assert [counts.push().result(LIMIT) for _ in range(2)] == [1, 2], "the same object each time"


@pytest.mark.parametrize("threads", [0, -1])
def test_a_start_without_threads_is_refused(d: Dispatcher, threads: int) -> None:
    with pytest.raises(forebay.InvalidError, match=f"threads is {threads}; at least 1"):
        d.start(threads)
    d.start(1)
    assert d.handler(kind="k")(lambda: 5).push().result(LIMIT) == 5


def test_a_requested_stop_ends_waits_for_what_nothing_will_run(d: Dispatcher) -> None:
    handle = d.push("nobody")
    d.request_stop()
    with pytest.raises(forebay.ClosedError, match="was queued; nothing here will run it"):
        handle.result()
