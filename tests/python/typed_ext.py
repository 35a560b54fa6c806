"""Not run, but checked by mypy and pyright: what the types of the integrations say, and what they refuse."""

from collections.abc import Awaitable, Coroutine
from typing import Any, assert_type

from fastapi import FastAPI
from flask import Flask
from forebay import Dispatcher, Handle, Job
from forebay.ext.django import job, push_on_commit
from forebay.ext.fastapi import ForebayDispatcher, forebay_lifespan, queue_full_handler
from forebay.ext.flask import Forebay
from forebay.ext.logging import EventLog, current_job, log_events

d = Dispatcher()
extension = Forebay()
flask = Flask("app")
extension.init_app(flask)


@extension.task
def plain(a: int, b: str = "") -> float:
    return a / 2


@extension.task(max_attempts=3)
async def later(a: int) -> list[str]:
    return [str(a)]


@job(using="other", pass_job=True)
def with_job(job: Job, a: int) -> bytes:
    return b""


assert_type(plain(1, b="x"), float)
assert_type(plain.push(1), Handle[float])
assert_type(plain.apush(1), Awaitable[Handle[float]])
assert_type(plain.options(delay=5).push(1, "x"), Handle[float])
called = later(1)
_: Coroutine[Any, Any, list[str]] = called
assert_type(later.push(1), Handle[list[str]])
assert_type(with_job.push(1), Handle[bytes])
push_on_commit(with_job, 1)
push_on_commit(plain.options(key="k"), 1, b="x")

plain.push("1")  # type: ignore[arg-type]
with_job.push()  # type: ignore[call-arg]
push_on_commit(later, "1")  # type: ignore[arg-type]
plain.options(dealy=5)  # type: ignore[call-arg]

app = FastAPI(lifespan=forebay_lifespan(d, drain=5))
app.add_exception_handler(ValueError, queue_full_handler(2))


def endpoint(d: ForebayDispatcher) -> int:
    assert_type(d, Dispatcher)
    return d.len()


assert_type(log_events(d), EventLog)
assert_type(current_job(), Job | None)
