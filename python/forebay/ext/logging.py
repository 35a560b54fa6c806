"""The standard library's `logging`: what happens in a dispatcher as records, and records that name their job.

from forebay.ext.logging import JobFilter, log_events, mark_jobs

logging.basicConfig(format="%(levelname)s %(job_kind)s %(job_id)s %(message)s", level=logging.INFO)
for handler in logging.getLogger().handlers:
    handler.addFilter(JobFilter())

d = forebay.Dispatcher("sqlite:jobs.db")
mark_jobs(d)  # What is logged in a handler names its job.
log_events(d)  # Retries, failures, a full queue and so on are logged by the logger "forebay".
"""

from __future__ import annotations

import logging
import threading
import traceback
from contextvars import ContextVar
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType
    from typing import Self

    from forebay import Dispatcher, Event, Job

__all__ = ["EventLog", "JobFilter", "current_job", "log_events", "mark_jobs"]

_LEVELS: dict[str, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
}

_job: ContextVar[Job | None] = ContextVar("forebay_job", default=None)


def log_events(
    dispatcher: Dispatcher,
    logger: logging.Logger | str = "forebay",
    *,
    level: int = logging.INFO,
    capacity: int = 10_000,
) -> EventLog:
    """Logs what happens from now on, until the dispatcher stops or the log is closed.

    A thread of its own does the logging, in batches: no push, no worker and no thread of Forebay ever waits
    for a handler of `logging`. If events come faster than they are logged, up to `capacity` of them wait;
    what comes then is dropped, and a warning says how many were.

    Each record has the attributes `event` ("retried", "failed" ...), `job_id`, `job_kind`, `job_queue`,
    `job_attempt`, `took` (seconds) and `failure` ("error", "timed_out" ...); those that an event does not
    have are None. Its time is that of the event.

    Args:
        dispatcher: Whose events.
        logger: Who logs them.
        level: Events below are not even made. At DEBUG there are three for each job: pushed, started,
            succeeded.
        capacity: How many events may wait to be logged, up to 1 048 576. Their memory is taken at once.
    """
    return EventLog(dispatcher, logger, level=level, capacity=capacity)


class EventLog:
    """What logs the events of a dispatcher; see `log_events`. Any thread may close it."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        logger: logging.Logger | str = "forebay",
        *,
        level: int = logging.INFO,
        capacity: int = 10_000,
    ) -> None:
        """Begins to log, as `log_events` does."""
        self._logger = logging.getLogger(logger) if isinstance(logger, str) else logger
        self._capacity = capacity
        self._events = dispatcher.subscribe(capacity, level=_name(level))
        self._told = 0
        # No daemon: one that comes back from native code into an interpreter that ends brings it down. This
        # one ends with the dispatcher, which the end of the interpreter stops.
        self._thread = threading.Thread(target=self._run, name="forebay-log", daemon=False)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """How many events were dropped, as they came faster than they were logged."""
        return self._events.dropped

    def close(self, timeout: float | None = None) -> bool:
        """Stops listening, and waits until what has happened before is logged.

        Args:
            timeout: How long to wait, in seconds; without it, for as long as it takes. Do not wait while you
                hold a lock that a handler of `logging` needs.

        Returns:
            Whether all of it is logged.
        """
        self._events.close()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def __enter__(self) -> Self:
        """Logs for the time of a block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Closes it."""
        self.close()

    def _run(self) -> None:
        while (event := self._events.next()) is not None:
            self._log([event, *self._events.drain()])

    def _log(self, batch: Iterable[Event]) -> None:
        for event in batch:
            self._guarded(_LEVELS[event.level], event.message, event)
        dropped = self._events.dropped
        if dropped > self._told:
            text = (
                f"{dropped - self._told} events were dropped: more than {self._capacity} waited to be logged"
            )
            self._guarded(logging.WARNING, text, None)
            self._told = dropped

    def _guarded(self, level: int, text: str, event: Event | None) -> None:
        """Logs, whatever the filters and handlers of others do: the next event is logged all the same."""
        try:
            if self._logger.isEnabledFor(level):
                self._logger.handle(_record(self._logger, level, text, event))
        except Exception:
            if logging.raiseExceptions:
                traceback.print_exc()


def _name(level: int) -> Literal["debug", "info", "warn", "error"]:
    """The level of Forebay that a level of `logging` is."""
    if level <= logging.DEBUG:
        return "debug"
    if level <= logging.INFO:
        return "info"
    return "warn" if level <= logging.WARNING else "error"


def _record(logger: logging.Logger, level: int, text: str, event: Event | None) -> logging.LogRecord:
    of_job = event is not None and event.id.int != 0
    extra: dict[str, object] = {
        "event": event and event.kind,
        "job_id": str(event.id) if event is not None and of_job else None,
        "job_kind": event and event.job_kind,
        "job_queue": event and event.queue,
        "job_attempt": event.attempt if event is not None and of_job else None,
        "took": event and event.took,
        "failure": event and event.failure,
    }
    record = logger.makeRecord(logger.name, level, __file__, 0, text, (), None, "log_events", extra)
    if event is not None:
        then = event.at.timestamp()
        record.relativeCreated += (then - record.created) * 1000
        record.created, record.msecs = then, (then % 1) * 1000
    return record


def mark_jobs(dispatcher: Dispatcher) -> None:
    """Notes which job runs, for `JobFilter` and `current_job`, in every attempt from now on.

    The note is a context variable, so it holds in the handler, in what that calls and in coroutines; in a
    thread that a handler starts only if that is run in a copy of the context.
    """
    dispatcher.add_hooks(before=_job.set, after=lambda job, outcome, seconds: _job.set(None))


def current_job() -> Job | None:
    """The job whose handler runs here, if its dispatcher was marked by `mark_jobs`."""
    return _job.get()


class JobFilter(logging.Filter):
    """Gives records that are logged in a handler the name of its job.

    That is in the attributes `job_id`, `job_kind`, `job_queue` and `job_attempt`. Elsewhere they are None, so
    that a format may name them. It lets every record through. Add it to the handlers of `logging`, not to
    loggers: a logger's filter does not see what the loggers below it log.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Adds the attributes, unless the record has them: what `log_events` logs names its job itself."""
        if not hasattr(record, "job_id"):
            job = _job.get()
            record.job_id = str(job.id) if job is not None else None
            record.job_kind = job.kind if job is not None else None
            record.job_queue = job.queue if job is not None else None
            record.job_attempt = job.attempt if job is not None else None
        return True
