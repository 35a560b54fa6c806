"""Not run, but checked by mypy and pyright: the types of an executor and of its futures."""

import concurrent.futures
from collections.abc import Iterator
from datetime import timedelta
from typing import assert_type

import forebay
from forebay import Executor, Future


def area(width: int, *, height: float = 1.0) -> float:
    return width * height


executor = Executor(4, "mill", max_attempts=3, retry="none", timeout=timedelta(seconds=5), capacity=10)
taken: concurrent.futures.Executor = executor

assert_type(executor.submit(area, 2, height=3.0), Future[float])
assert_type(executor.submit(area, 2).result(timeout="5s"), float)
assert_type(executor.submit(area, 2).exception(), BaseException | None)
assert_type(executor.options(priority=1, key="x", timeout=5).submit(area, 2), Future[float])
assert_type(executor.map(area, [1, 2], buffersize=10, timeout=5), Iterator[float])
future: concurrent.futures.Future[float] = executor.submit(area, 2)
waited = concurrent.futures.wait([executor.submit(area, 2)])
assert_type([done.result() for done in waited.done], list[float])

executor.submit(area, "2")  # type: ignore[arg-type]
executor.submit(area, 2, depth=3)  # type: ignore[call-arg]
executor.options(colour="red")  # type: ignore[call-arg]

with forebay.Executor() as opened:
    assert_type(opened, Executor)
