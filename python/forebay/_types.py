"""The types of arguments, for annotations."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextvars import ContextVar

    from forebay._forebay import Handle
    from forebay.codec import Codec

Delay: TypeAlias = float | timedelta | str
"""A duration: seconds, a timedelta, or a text with its unit, such as "5s"."""
When: TypeAlias = Delay | datetime
"""A duration from now, or an instant with a time zone."""
Durability: TypeAlias = Literal["memory", "os", "disk"]
"""What an accepted job survives: nothing, the end of its process (kill -9 too), or even a power cut."""
ReturnWhen: TypeAlias = Literal["ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION"]
"""When a wait for many jobs is over."""
CodecOrName: TypeAlias = "Literal['json', 'msgpack', 'pickle'] | Codec"
"""What values are written with where they leave the process."""
Url: TypeAlias = str | PathLike[str]
"""What a dispatcher is opened on: a URL, or the path of a file, which is a `sqlite:` one."""
Id: TypeAlias = "UUID | str | Handle[Any]"
"""What names a job."""
OptionValue: TypeAlias = float | str | bool | timedelta | PathLike[str] | None
"""The value of an option of a dispatcher."""
Variables: TypeAlias = "Iterable[ContextVar[str]] | OptionValue"
"""Context variables, or None. The rest is for programs that give all options in one dict, and is refused."""
Left: TypeAlias = Literal["default"] | None
"""What leaves an option of a queue or a kind to the dispatcher."""
Rate: TypeAlias = float | str
"""A number per second, or a text: "100/s", "6000/m", "100/s burst=20"."""


class CallOptions(TypedDict, total=False):
    """What a push and an executor's `options` say of a job, by name; None is as if it were left out."""

    priority: int | None
    """From -128 to 127; higher ones start first, 0 if nothing is said."""
    delay: Delay | None
    """How long from now it may not start."""
    run_at: When | None
    """The instant before which it may not start."""
    deadline: When | None
    """The instant, or the time from now, after which no attempt starts; a job that waits then expires."""
    key: str | None
    """Its idempotency key: while a job with it is known, a push with it makes no second one. An executor
    knows a call until it has ended, and returns its future."""
    concurrency_key: str | None
    """The flow it is of: those of a queue take turns, and can have limits."""
    max_attempts: int | Literal["unlimited"] | None
    """How often it may run in all."""
    retry: str | None
    """The pause between attempts: "none", "constant(5s)", "linear(1s)" or
    "exponential(1s, cap=5m, jitter=0.1)"."""
    timeout: Delay | None
    """How long one attempt may take."""
    wait: Delay | None
    """How long to wait for room in a full queue; what the queue's policy says if nothing is said."""


class PushOptions(CallOptions, total=False):
    """What a push says beside kind and payload, by name; None is as if it were left out."""

    id: UUID | str | None
    """Its id, for whoever makes ids; while it is known, a push with it makes no second job."""
    queue: str | None
    """Its queue; the option `queue` of the dispatcher if nothing is said."""
    headers: Mapping[str, str] | None
    """Texts by name that travel with it."""
    waits_for: list[str] | None
    """Tokens without which it does not start; see `signal`."""
    durability: Durability | None
    """What it must survive before the push returns."""


class KindOptions(TypedDict, total=False):
    """What a handler says of its kind, by name; None, like what is left out, leaves it to the dispatcher."""

    concurrency: int | Left
    """The most of its jobs at once."""
    max_attempts: int | Literal["unlimited"] | Left
    """How often a job may run in all, or "unlimited"."""
    retry: str | None
    """The pause between attempts: "none", "constant(5s)", "linear(1s)" or
    "exponential(1s, cap=5m, jitter=0.1)"."""
    timeout: Delay | None
    """How long one attempt may take."""
    rate: Rate | None
    """How fast its jobs start; "none" is without limit."""
    adaptive: str | None
    """A limit of bodies at once that finds itself: "aimd(min=1, max=100)" or "gradient(min=1, max=100)", with
    "per=key" for one limit per concurrency key; "none"."""
    breaker: str | None
    """When so many attempts fail that none starts for a while: "failures(5, open=30s, probes=1)"; "none"."""
    retry_budget: str | None
    """How many retries there may be for the jobs that are new: "share(0.2, floor=1/s)"; "none"."""


class QueueOptions(TypedDict, total=False):
    """What a queue has of its own, by name; None, like "default", leaves it to the dispatcher."""

    concurrency: int | Left
    """The most of its jobs at once."""
    rate: Rate | None
    """How fast its jobs start; "none" is without limit."""
    capacity: int | Left
    """The most jobs that may wait; 0 is without bound."""
    capacity_bytes: int | Left
    """The most bytes that the payloads of the waiting jobs may have together; 0 is without bound. An object
    that travels by reference has no length and counts nothing."""
    on_full: str | None
    """What a push does when it is full: "reject", "block(5s)", "drop_newest", "drop_oldest", "drop_lowest",
    "coalesce", "sample(0.1)" or "spill"."""
    delay_target: Delay | None
    """How long its jobs should wait at most when it is overloaded; "none"."""
    delay_interval: Delay | None
    """How long the waits must be above `delay_target` for it to be overloaded."""
    newest_first: bool | Left
    """Whether its newest jobs start first while it is overloaded; needs `delay_target`."""
    key_concurrency: int | Left
    """The most jobs of one concurrency key that run at once; 0 is without limit."""
    key_rate: Rate | None
    """How fast jobs of one concurrency key start."""
    high_watermark: float | Left
    """The pressure, from 0 to 1, at which it raises the event "high_watermark"."""
    low_watermark: float | Left
    """The pressure at which it raises "low_watermark", after it was high."""


class ForwardOptions(TypedDict, total=False):
    """How the jobs of a queue are passed on."""

    batch: int
    """The most jobs at once."""
    retry: str
    """The pause after a delivery that failed: "constant(1s)", "exponential(100ms, cap=30s, jitter=0.1)"."""


class WorkerArguments(TypedDict):
    """What the command line says to `forebay worker`."""

    target: str
    """Where the dispatcher is: "module", "module:name", "module:factory()"."""
    threads: int | None
    """How many threads run sync handlers; None is as many as jobs may run at once."""
    processes: int
    """How many processes work."""
    queues: list[str] | None
    """The only queues that are served; None is every one."""
    reload: bool
    """Whether to start again when a file of the program changes."""
    grace: float | None
    """How long running jobs have to end after a stop, in seconds; None leaves it to the dispatcher."""
    interval: float | None
    """How often to tell the counts, in seconds."""
    quiet: bool
    """Whether to tell only what went wrong."""
    json: bool
    """Whether programs read it."""
