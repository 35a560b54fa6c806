"""Not run, but checked by mypy and pyright: what the types of async handlers say, and what they refuse."""

from collections.abc import Coroutine
from typing import Any, assert_type

from forebay import AsyncHandler, AsyncJobHandler, Dispatcher, Handle, Handler, Job, StopReport

d = Dispatcher("memory:", concurrency=4)


@d.handler
async def plain(a: int, b: str = "") -> float:
    return a / 2


@d.handler(kind="x", max_attempts=3)
async def with_options(a: int) -> list[str]:
    return [str(a)]


@d.handler(pass_job=True)
async def with_job(job: Job, a: int, *, loud: bool = False) -> bytes:
    return b""


class Fresh:
    async def __call__(self, a: int) -> str:
        return str(a)


fresh = d.handler(Fresh)
fresh_with_options = d.handler(kind="fresh")(Fresh)
of_an_object = d.handler(kind="object")(Fresh())


made: Coroutine[Any, Any, float] = plain(1, b="x")
assert_type(plain.push(1), Handle[float])
assert_type(plain.push(1).result(5), float)
assert_type(plain.options(priority=3).push(1, "x"), Handle[float])
assert_type(with_options.push(1).result(), list[str])
assert_type(with_job.push(1, loud=True).result(), bytes)
assert_type(fresh.push(1).result(), str)
assert_type(fresh_with_options.push(1).result(), str)
assert_type(of_an_object.push(1).result(), str)
handler: Handler[[int], list[str]] = with_options
async_handler: AsyncHandler[[int], list[str]] = with_options
job_handler: AsyncJobHandler[..., bytes] = with_job


async def life() -> None:
    async with d as same:
        assert_type(same, Dispatcher)
        assert_type(await plain(1), float)
        assert_type(await (await plain.apush(1)), float)
        await d.adrain(timeout=5)
    assert_type(await d.astop("1s"), StopReport)
    await d.arun()


plain.push("1")  # type: ignore[arg-type]
plain.push()  # type: ignore[call-arg]
with_job.push(1, quiet=True)  # type: ignore[call-arg]
lacking = with_job(1)  # type: ignore[call-arg, arg-type]
fresh.push("x")  # type: ignore[arg-type]
