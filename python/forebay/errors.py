"""What can go wrong, one class per kind of error of the core, and what a handler raises to steer its job.

`BY_CODE` maps the stable numbers of the core, which are also the status codes of the C library, to the
classes. Where Python has a fitting exception of its own, the class derives from it too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from datetime import timedelta
    from uuid import UUID


class ForebayError(Exception):
    """An error of Forebay."""

    code: ClassVar[int] = 0
    """The stable number of the kind of error, as in every language."""


class InvalidError(ForebayError, ValueError):
    """An argument, a name, an option or a job is not valid."""

    code = 1


class NoMemoryError(ForebayError, MemoryError):
    """Memory, or a thread, could not be had."""

    code = 2


class QueueFull(ForebayError):
    """The queue holds as many jobs as it may; nothing was accepted."""

    code = 3


class ClosedError(ForebayError, RuntimeError):
    """The dispatcher has stopped and accepts nothing more."""

    code = 4


class WaitTimeout(ForebayError, TimeoutError):
    """The time to wait was over first."""

    code = 5


class StaleLease(ForebayError):
    """The attempt has ended: the job timed out, was taken over, or is finished."""

    code = 6


class KeyConflict(ForebayError):
    """The idempotency key belongs to another job, with another kind or payload."""

    code = 7


class NotFoundError(ForebayError, LookupError):
    """There is no job, queue, option or file of that name or id."""

    code = 8


class StorageError(ForebayError, OSError):
    """The store or the file system failed."""

    code = 9


class ForkedError(ForebayError, RuntimeError):
    """The dispatcher was opened before a fork and cannot be used in the child."""

    code = 10


class WouldDeadlock(ForebayError, RuntimeError):
    """The call would wait for the handler that makes it."""

    code = 11


class UnsupportedError(ForebayError, NotImplementedError):
    """The engine, or this build, cannot do that."""

    code = 12


class WaitInterrupted(ForebayError, InterruptedError):
    """A wait was interrupted."""

    code = 13


class JobFailed(ForebayError):
    """The job did not succeed: it failed, expired, was cancelled or was shed.

    Attributes:
        job_id: Which job.
        job_kind: The kind of the job.
        kind: Why: "error", "fatal", "panic", "timed_out", "lease_lost", "over_max_attempts", "expired" and
            so on.
        message: What the last attempt said, with its traceback.
        attempts: How many attempts it took.
    """

    code = 14

    def __init__(
        self,
        text: str = "",
        *,
        job_id: UUID | None = None,
        job_kind: str = "",
        kind: str = "",
        message: str = "",
        attempts: int = 0,
    ) -> None:
        """With this text, about this job."""
        super().__init__(text)
        self.job_id = job_id
        self.job_kind = job_kind
        self.kind = kind
        self.message = message
        self.attempts = attempts


class UnknownKind(ForebayError, LookupError):
    """No handler for this kind is registered here."""

    code = 15


class CorruptError(ForebayError):
    """The file or record is damaged; nothing was changed."""

    code = 16


class FutureFormatError(ForebayError):
    """The file was written by a newer version; nothing was changed."""

    code = 17


class AlreadyOpen(ForebayError):
    """The file is in use by another process or dispatcher."""

    code = 18


class EncodeError(ForebayError, TypeError):
    """The payload or result cannot be written, or is not as annotated; the text names the part."""

    code = 19


class JobCancelled(JobFailed):
    """The job was cancelled. Raised by `Job.check` as well, in a handler that should stop."""

    code = 20


class OutcomeUnknown(ForebayError, OSError):
    """The store failed before it could say whether the write was kept: the job may or may not run."""

    code = 21


class Shed(JobFailed):
    """The job was given up by a rule against overload, before its handler saw it.

    Attributes:
        reason: Which rule: "shed_newest", "shed_oldest", "shed_lowest", "shed_coalesced", "shed_sampled" or
            "shed_delayed"; `kind` is the same.
    """

    code = 22

    @property
    def reason(self) -> str:
        """Which rule."""
        return self.kind


class DecodeError(ForebayError, ValueError):
    """The payload or result cannot be read, or is not what the annotation says; the text names the part."""

    code = 23


class InternalError(ForebayError, RuntimeError):
    """A defect of Forebay itself: a panic was caught."""

    code = 100


BY_CODE: dict[int, type[ForebayError]] = {
    cls.code: cls
    for cls in (
        InvalidError,
        NoMemoryError,
        QueueFull,
        ClosedError,
        WaitTimeout,
        StaleLease,
        KeyConflict,
        NotFoundError,
        StorageError,
        ForkedError,
        WouldDeadlock,
        UnsupportedError,
        WaitInterrupted,
        JobFailed,
        UnknownKind,
        CorruptError,
        FutureFormatError,
        AlreadyOpen,
        EncodeError,
        JobCancelled,
        OutcomeUnknown,
        Shed,
        DecodeError,
        InternalError,
    )
}


BY_STATE: dict[str, type[JobFailed]] = {"cancelled": JobCancelled, "shed": Shed}


def ended(state: str, job_id: UUID, job_kind: str, kind: str, message: str, attempts: int) -> JobFailed:
    """The exception of a job that ended in a state other than "succeeded"."""
    cls = BY_STATE.get(state, JobFailed)
    runs = "1 attempt" if attempts == 1 else f"{attempts} attempts"
    text = f"job {job_id} ({job_kind}) ended as {state} after {runs}, {kind}: {message}"
    return cls(text, job_id=job_id, job_kind=job_kind, kind=kind, message=message, attempts=attempts)


class Retry(Exception):
    """Raise it from a handler to have the job run again. The attempt counts.

    Attributes:
        after: The pause before the next attempt; None leaves it to the retry policy.
        reason: Why, for the job's history.
    """

    def __init__(self, after: float | timedelta | str | None = None, reason: str = "") -> None:
        """After this pause, for this reason."""
        super().__init__(after, reason)
        self.after = after
        self.reason = reason


class Snooze(Exception):
    """Raise it from a handler for which it is not time yet. The attempt does not count.

    Attributes:
        after: The pause before the next attempt.
    """

    def __init__(self, after: float | timedelta | str) -> None:
        """After this pause."""
        super().__init__(after)
        self.after = after


class RateLimited(Exception):
    """Raise it from a handler whose dependency says "not now", as with status 429 or 503.

    The attempt does not count and is no failure, neither for a breaker nor for a retry budget; limits with
    the option `adaptive` take it as a sign to start fewer.

    Attributes:
        retry_after: The pause before the next attempt, as the dependency says; None leaves it to the retry
            policy.
    """

    def __init__(self, retry_after: float | timedelta | str | None = None) -> None:
        """After this pause: seconds, a timedelta, or a text with its unit."""
        super().__init__(retry_after)
        self.retry_after = retry_after


class Fatal(Exception):
    """Raise it from a handler that no further attempt can help: the job fails now, with this text."""
