"""Forebay: a job queue that lives inside your program.

Push jobs, register handlers, and get retries with backoff, deadlines, priorities, bounded concurrency,
results and a clean stop, without a broker beside you:

    import forebay

    with forebay.Dispatcher() as d:

        @d.handler(max_attempts=3)
        def greet(name: str) -> str:
            return f"hello {name}"

        print(greet.push("world").result(timeout=5))

Values travel by reference while they stay in this process; `bytes` travel untouched. They are written as
JSON only when they must leave it, for a dump or a reader in another language. So a handler that changes what
it was given changes it for whoever pushed it, and for its own next attempt.
"""

from typing import TYPE_CHECKING, Any

from forebay._forebay import (
    AsyncHandler,
    AsyncJobHandler,
    Attempt,
    Consumer,
    Delivery,
    Event,
    Forwarder,
    Handle,
    Handler,
    Job,
    JobHandler,
    JobInfo,
    Subscription,
    __version__,
)
from forebay._wait import AsCompleted, Waited, as_completed, gather, wait
from forebay.codec import Codec
from forebay.dispatcher import Dispatcher, Page, StopReport
from forebay.errors import (
    AlreadyOpen,
    ClosedError,
    CorruptError,
    DecodeError,
    EncodeError,
    Fatal,
    ForebayError,
    ForkedError,
    FutureFormatError,
    InternalError,
    InvalidError,
    JobCancelled,
    JobFailed,
    KeyConflict,
    NoMemoryError,
    NotFoundError,
    OutcomeUnknown,
    QueueFull,
    RateLimited,
    Retry,
    Shed,
    Snooze,
    StaleLease,
    StorageError,
    UnknownKind,
    UnsupportedError,
    WaitInterrupted,
    WaitTimeout,
    WouldDeadlock,
)

if TYPE_CHECKING:
    from forebay.executor import Executor, Future

__all__ = [
    "AlreadyOpen",
    "AsCompleted",
    "AsyncHandler",
    "AsyncJobHandler",
    "Attempt",
    "ClosedError",
    "Codec",
    "Consumer",
    "CorruptError",
    "DecodeError",
    "Delivery",
    "Dispatcher",
    "EncodeError",
    "Event",
    "Executor",
    "Fatal",
    "ForebayError",
    "ForkedError",
    "Forwarder",
    "Future",
    "FutureFormatError",
    "Handle",
    "Handler",
    "InternalError",
    "InvalidError",
    "Job",
    "JobCancelled",
    "JobFailed",
    "JobHandler",
    "JobInfo",
    "KeyConflict",
    "NoMemoryError",
    "NotFoundError",
    "OutcomeUnknown",
    "Page",
    "QueueFull",
    "RateLimited",
    "Retry",
    "Shed",
    "Snooze",
    "StaleLease",
    "StopReport",
    "StorageError",
    "Subscription",
    "UnknownKind",
    "UnsupportedError",
    "WaitInterrupted",
    "WaitTimeout",
    "Waited",
    "WouldDeadlock",
    "__version__",
    "as_completed",
    "gather",
    "wait",
]


def __getattr__(name: str) -> Any:
    """What is loaded when somebody asks for it: an executor brings `concurrent.futures` with it."""
    if name in ("Executor", "Future"):
        from forebay import executor

        return getattr(executor, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
