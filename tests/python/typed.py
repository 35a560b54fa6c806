"""Not run, but checked by mypy: what the types of the surface say, and what they refuse."""

from collections.abc import Awaitable
from typing import Any, Literal, assert_type
from uuid import UUID

from forebay import Dispatcher, Handle, Handler, Job, JobHandler, JobInfo, Page

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
