"""What a worker process tells of itself: the counts of one look, and how long the oldest job waits."""

from __future__ import annotations

import os
import time
from typing import Any, TypedDict

from forebay import _forebay
from forebay._types import WorkerArguments
from forebay.dispatcher import Dispatcher

_LOOKS = 512
"""How many looks are remembered."""


class Started(TypedDict):
    """A worker that begins."""

    at_us: int
    version: str
    pid: int
    target: str
    url: str
    durability: str
    threads: int
    processes: int
    queues: list[str] | None
    grace: str
    handlers: dict[str, dict[str, str]]


class Totals(TypedDict):
    """The counts of all queues together."""

    running: int
    waiting: int
    later: int
    claimed: int
    done: int
    failed: int
    shed: int


class Counts(Totals):
    """What there is to see at one instant; what began and what ended is counted from the first look on."""

    at_us: int
    per_second: float
    oldest_wait_us: int


ZERO = Totals(running=0, waiting=0, later=0, claimed=0, done=0, failed=0, shed=0)


def now_us() -> int:
    """The present instant."""
    return time.time_ns() // 1000


def started(dispatcher: Dispatcher, arguments: WorkerArguments) -> Started:
    """What a worker process has before it."""
    settings, threads, grace = dispatcher.settings, arguments["threads"], arguments["grace"]
    return Started(
        at_us=now_us(),
        version=_forebay.__version__,
        pid=os.getpid(),
        target=arguments["target"],
        url=os.fspath(dispatcher._url),
        durability=dispatcher.durability,
        threads=dispatcher.concurrency if threads is None else min(threads, dispatcher.concurrency),
        processes=1,
        queues=arguments["queues"],
        grace=settings["grace"] if grace is None else f"{grace:g}s",
        handlers={
            kind: {name: text for name, text in options.items() if text != "default"}
            for kind, options in dispatcher.handlers().items()
        },
    )


def totals(stats: dict[str, Any]) -> Totals:
    """The counts of all queues together, from what a dispatcher tells."""
    queues = stats["queues"].values()

    def total(*names: str) -> int:
        return sum(queue[name] for queue in queues for name in names)

    return Totals(
        running=total("running"),
        waiting=total("queued"),
        later=total("scheduled", "blocked"),
        claimed=total("claimed"),
        done=total("succeeded"),
        failed=total("failed", "expired"),
        shed=total("shed"),
    )


class Looks:
    """The looks at one dispatcher, from a first one on."""

    def __init__(self, begin: Totals) -> None:
        """From this one on."""
        self._begin, self._last = begin, begin
        self._at = time.monotonic()
        self._waits = Waits(begin, self._at)

    def take(self, now: Totals) -> Counts:
        """One more look."""
        begin, last, before = self._begin, self._last, self._at
        self._last, self._at = now, time.monotonic()
        ended = now["done"] + now["failed"] - last["done"] - last["failed"]
        return Counts(
            at_us=now_us(),
            running=now["running"],
            waiting=now["waiting"],
            later=now["later"],
            claimed=now["claimed"] - begin["claimed"],
            done=now["done"] - begin["done"],
            failed=now["failed"] - begin["failed"],
            shed=now["shed"] - begin["shed"],
            per_second=round(max(0, ended) / max(1e-3, self._at - before), 1),
            oldest_wait_us=int(1e6 * self._waits.oldest(now, self._at)),
        )


class Waits:
    """How long the job has waited that is next, told from counts alone.

    Jobs start in the order in which they become ready, but for priorities and limits. So the next one is that
    which was the first to be ready when as many had been ready as have started by now; and when that was, the
    looks know, to within the time between two of them. To ask the store for its oldest job would cost a walk
    through all that wait, at each look.
    """

    def __init__(self, begin: Totals, at: float) -> None:
        """From this look on; what waits already has waited from now."""
        self._ready = [(at, begin["claimed"] + begin["waiting"])]

    def oldest(self, now: Totals, at: float) -> float:
        """How long, in seconds; 0 if no job waits."""
        ready = now["claimed"] + now["waiting"]
        # Those that were cancelled or shed meanwhile are ready no more.
        while self._ready and self._ready[-1][1] > ready:
            self._ready.pop()
        self._ready.append((at, ready))
        while len(self._ready) > 1 and self._ready[0][1] <= now["claimed"]:
            self._ready.pop(0)
        if len(self._ready) > _LOOKS:
            # The older ones need less precision.
            del self._ready[1 : _LOOKS // 2 : 2]
        return at - self._ready[0][0] if now["waiting"] else 0.0
