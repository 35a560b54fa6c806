"""Not run, but checked by mypy and pyright: what the types of the surface say, and what they refuse."""

from collections.abc import Awaitable
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, TypeVar, assert_type
from uuid import UUID

from forebay import Dispatcher, Event, Handle, Handler, Job, JobFailed, JobHandler, JobInfo, Page, StopReport

T = TypeVar("T")

d = Dispatcher("memory:", concurrency=4, grace="5s")


@d.handler
def plain(a: int, b: str = "") -> float:
    return a / 2


@d.handler(kind="x", max_attempts=3)
def with_options(a: int) -> list[str]:
    return [str(a)]


@d.handler(pass_job=True)
def with_job(job: Job, a: int, *, loud: bool = False) -> bytes:
    return b""


class Fresh:
    def __call__(self, a: int) -> str:
        return str(a)


# Type checkers take a decorated class for the class itself, so this form keeps its types.
fresh = d.handler(Fresh)


assert_type(plain(1, b="x"), float)
assert_type(plain.push(1), Handle[float])
assert_type(plain.push(1).result(5), float)
assert_type(plain.apush(1), Awaitable[Handle[float]])
assert_type(d.apush("x", 1, durability="os"), Awaitable[Handle[Any]])
assert_type(plain.options(priority=3).push(1, "x"), Handle[float])
assert_type(with_options.push(1).result(), list[str])
assert_type(with_job.push(1, loud=True).result(), bytes)
assert_type(fresh.push(1).result(), str)
assert_type(plain.push(1).id, UUID)
assert_type(plain.options(durability="os").push(1).durability, Literal["memory", "os", "disk"])
assert_type(plain.push(1).job(), JobInfo)
assert_type(d.push("x", 1), Handle[Any])
assert_type(d.list(), Page)
assert_type(d.push("x", 1, concurrency_key="tenant").shed, str | None)
assert_type(d.pressure("mail"), float)
d.configure_queue(
    "mail", capacity=1000, on_full="drop_oldest", rate="100/s", delay_target=0.05, key_rate=None
)
d.handler(kind="y", rate=10, adaptive="aimd(min=1, max=100)", breaker="failures(5, open=30s)")
handler: Handler[[int], list[str]] = with_options
job_handler: JobHandler[..., bytes] = with_job

# What is pushed is what the function takes, whatever was said before; and so is what comes back.
later = plain.options(
    delay=timedelta(seconds=5), key="k", priority=3, deadline="1m", headers={"a": "b"}, wait=None
)
assert_type(later(1, b="x"), float)
assert_type(later.options(queue="mail").push(1, b="x").result("5s"), float)
assert_type(with_job.options(max_attempts="unlimited").push(1), Handle[bytes])
assert_type(d.handler(later_or_never := (lambda: 1)), Handler[[], int])


def any_number(*args: int, **kwargs: str) -> None: ...


def generic(value: T) -> list[T]:
    return [value]


assert_type(d.handler(any_number).push(1, 2, 3, a="x"), Handle[None])
assert_type(d.handler(kind="g")(generic).push("x").result(), list[str])


async def awaits() -> float:
    handle = await plain.apush(1)
    assert_type(handle, Handle[float])
    return handle.result()


with Dispatcher(Path("jobs.db"), shared=True) as opened:
    assert_type(opened, Dispatcher)
    assert_type(opened.stop(timedelta(seconds=1)), StopReport)
    assert_type(opened.subscribe().next(1), Event | None)
    assert_type([event.took for event in opened.subscribe()], list[float | None])

try:
    plain.push(1).result()
except JobFailed as failed:
    assert_type(failed.job_id, UUID | None)

plain.apush("1")  # type: ignore[arg-type]
plain.push("1")  # type: ignore[arg-type]
plain.push()  # type: ignore[call-arg]
with_options.push(1, 2)  # type: ignore[call-arg]
with_job.push(1, quiet=True)  # type: ignore[call-arg]
with_job(1)  # type: ignore[call-arg, arg-type]
fresh.push("x")  # type: ignore[arg-type]
d.push("x", 1, colour="red")  # type: ignore[call-arg]
d.push("x", durability="ssd")  # type: ignore[arg-type]
d.configure_queue("mail", capacty=1)  # type: ignore[call-arg]
d.configure_queue("mail", capacity="many")  # type: ignore[arg-type]
d.handler(kind="y", rates=10)  # type: ignore[call-overload]
Dispatcher(concurrency=[1])  # type: ignore[arg-type]
later.push("1")  # type: ignore[arg-type]
later.push(1, c="x")  # type: ignore[call-arg]
plain.options(colour="red")  # type: ignore[call-arg]
plain.options(priority="high")  # type: ignore[arg-type]
plain.options(3)  # type: ignore[call-arg]
with_job.options(priority=3).push(1, 2)  # type: ignore[call-arg, arg-type]
plain.push(1).result(timeout=[5])  # type: ignore[arg-type]
plain.push(1).status = "failed"  # type: ignore[misc]
d.handler(3)  # type: ignore[call-overload]
d.push(1)  # type: ignore[arg-type]
d.push("x", None, "y")  # type: ignore[call-arg, arg-type]
d.list(status=3)  # type: ignore[arg-type]
text: str = plain.push(1).result()  # type: ignore[assignment]
other: Handler[[str], float] = plain  # type: ignore[assignment]


@d.handler(pass_job=True)  # type: ignore[arg-type]
def takes_no_job(a: int) -> None: ...
