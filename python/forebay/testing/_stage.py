"""The stage: a dispatcher on which nothing happens until a test says so."""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections.abc import Callable, Coroutine, Generator, Mapping
from datetime import UTC, datetime, timedelta
from inspect import iscoroutine
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar

from forebay._forebay import Delivery, Handler, JobInfo, call_handler, oversee, registered, take_after
from forebay._forebay import seed as _seed
from forebay.dispatcher import Dispatcher
from forebay.errors import EncodeError, InvalidError, NotFoundError, RateLimited, Retry, Snooze, StaleLease
from forebay.testing._double import double
from forebay.testing._jobs import WAITING, Sought, listing, nearest

if TYPE_CHECKING:
    from forebay._types import Delay

T = TypeVar("T")

_PAGE = 10_000
"""The most jobs that one listing tells."""


class DrainLimitError(AssertionError):
    """So many jobs ran in one drain that it seems to have no end."""


class Run(NamedTuple):
    """One attempt that ran on a stage."""

    job: JobInfo
    """The job, as of after the attempt."""
    attempt: int
    """The number of the attempt, from 1."""
    outcome: str
    """What became of it: "succeeded", "failed" for good, "retried" after a failure or by `Retry`, "snoozed",
    "rate_limited", "cancelled", "timed_out", "expired", or "lost" when the answer counted no more."""
    result: Any
    """What the handler returned; None if it raised."""
    error: BaseException | None
    """What the handler raised, with its traceback."""

    @property
    def kind(self) -> str:
        """The kind of the job."""
        return self.job.kind


class Report:
    """What a drain did. Compares by its numbers, and shows them."""

    def __init__(self, runs: list[Run], left: int) -> None:
        """Of these attempts, with so many jobs left."""
        self.runs = runs
        """Every attempt, in the order in which they ran."""
        self.left = left
        """How many jobs wait after it: for their time, a signal, a queue that is paused, a handler."""

    def count(self, *outcomes: str) -> int:
        """How many attempts came to one of these."""
        return sum(run.outcome in outcomes for run in self.runs)

    @property
    def succeeded(self) -> int:
        """How many jobs succeeded."""
        return self.count("succeeded")

    @property
    def failed(self) -> int:
        """How many jobs failed for good."""
        return self.count("failed", "timed_out")

    @property
    def retried(self) -> int:
        """How many attempts are to be made again: after a failure, or because the handler asked."""
        return self.count("retried", "snoozed", "rate_limited")

    @property
    def errors(self) -> list[BaseException]:
        """What handlers raised, in order."""
        return [run.error for run in self.runs if run.error is not None]

    def __repr__(self) -> str:
        numbers = f"succeeded={self.succeeded} failed={self.failed} retried={self.retried} left={self.left}"
        raised = "".join(f"\n  {run.kind}: {run.error!r}" for run in self.runs if run.error is not None)
        return f"<forebay.testing.Report {numbers}>{raised}"


class Stage:
    """A dispatcher in memory whose clock stands still and whose jobs run when the test says so.

    `stage.dispatcher` is the dispatcher: register handlers on it and push, as in the program. Its `start`,
    `run` and `stop` start and stop nothing, so that it can be given to a program. `replace` puts a stage in
    the place of a dispatcher that the program already has. A stage belongs to the thread that made it; pushes
    may come from any.
    """

    def __init__(
        self,
        like: Dispatcher | None = None,
        *,
        inline: bool = False,
        seed: int = 0,
        start: datetime | None = None,
        **options: Any,
    ) -> None:
        """A new stage, empty.

        Args:
            like: A dispatcher whose options, handlers, queues and hooks it is to have.
            inline: Whether jobs run at once, before their push returns, and raise there what they raise.
            seed: What jitter and sampling begin with.
            start: Where the clock stands, with a time zone; now, if left out.
            **options: Options of a dispatcher.
        """
        start = datetime.now(UTC) if start is None else start
        if start.tzinfo is None:
            raise InvalidError("start has no time zone; use for example datetime(2030, 1, 1, tzinfo=UTC)")
        clock = f"manual({round(start.timestamp() * 1000)})"
        self.inline = inline
        """Whether jobs run at once, before their push returns."""
        self._busy = False
        self._runner: asyncio.Runner | None = None
        self.dispatcher: Dispatcher = double(self, like, clock, options)
        """The dispatcher."""
        _seed(seed)

    def close(self) -> None:
        """Ends the stage, and with it every job on it. A second call does nothing."""
        if self._runner is not None:
            self._runner.close()
            self._runner = None
        oversee(self.dispatcher, None)
        Dispatcher.stop(self.dispatcher, 0)

    def __enter__(self) -> Self:
        """The stage."""
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the stage."""
        self.close()

    def __repr__(self) -> str:
        return f"<forebay.testing.Stage {self.waiting()} jobs wait, {self.now().isoformat()}>"

    # ---- time -------------------------------------------------------------------------------------------

    def now(self) -> datetime:
        """Where its clock stands."""
        return self.dispatcher.now()

    def advance(self, by: Delay) -> None:
        """Moves the clock forward and does what becomes due by itself.

        Jobs are queued, attempts that are overdue time out, jobs past their deadline expire, finished ones
        are forgotten. No handler runs: `drain` does that. A handler may call it, to take that long.
        """
        self.dispatcher.advance(by)

    def advance_to(self, when: datetime) -> None:
        """Moves the clock forward to an instant.

        Raises:
            InvalidError: It has passed.
        """
        by = when - self.now()
        if by < timedelta(0):
            raise InvalidError(f"{when.isoformat()} has passed: the clock stands at {self.now().isoformat()}")
        self.advance(by)

    # ---- running ----------------------------------------------------------------------------------------

    def drain(
        self,
        *,
        raise_failures: bool | None = None,
        scheduled: bool = False,
        queue: str | None = None,
        limit: int = 10_000,
    ) -> Report:
        """Runs every job that is due and has a handler, and what they push, one after the other.

        Jobs run in the order in which a single worker would take them. Those that are scheduled for later,
        retries among them, are left, unless `scheduled` says otherwise. Coroutines of async handlers run on
        an event loop of the stage's; where a loop runs already, use `adrain`.

        Args:
            raise_failures: Whether the first exception of a handler ends the drain and is raised here, after
                its job has been told; what a handler asks for by `Retry`, `Snooze` and `RateLimited` is none.
                If left out, an AssertionError is raised, which is likely to be the test's, and nothing else.
            scheduled: Whether to move the clock to when the next job is due, as long as one is scheduled.
            queue: Only jobs of this queue.
            limit: The most attempts.

        Raises:
            DrainLimitError: More than `limit` attempts ran, as when a handler pushes itself again and again.
        """
        return self._here(self._work(raise_failures, scheduled, queue, limit))

    async def adrain(
        self,
        *,
        raise_failures: bool | None = None,
        scheduled: bool = False,
        queue: str | None = None,
        limit: int = 10_000,
    ) -> Report:
        """The same as `drain` on the running event loop; handlers that are not async run in this thread."""
        return await self._awaiting(self._work(raise_failures, scheduled, queue, limit))

    def perform(
        self, handler: Handler[..., Any], /, *args: Any, job: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> Run:
        """Runs one attempt of a job with these arguments, beside all that is enqueued.

        The job is a real one, and is as it would be after the attempt: scheduled if it is to run again,
        failed, and so on. What its handler pushes is enqueued on the stage.

        Args:
            handler: Whose job.
            *args: What the job is pushed with.
            job: Options of the push, as of `handler.options`; and `attempt`, the number that the attempt has.
            **kwargs: What the job is pushed with.
        """
        return self._here(self._performance(handler, args, kwargs, dict(job or {})))

    async def aperform(
        self, handler: Handler[..., Any], /, *args: Any, job: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> Run:
        """The same as `perform` on the running event loop."""
        return await self._awaiting(self._performance(handler, args, kwargs, dict(job or {})))

    # ---- looking ----------------------------------------------------------------------------------------

    def waiting(self) -> int:
        """How many jobs wait, for whatever it is."""
        return Dispatcher.list(self.dispatcher, status=WAITING, limit=1).total

    def enqueued(
        self,
        handler: Handler[..., Any] | Callable[..., Any] | str | None = None,
        /,
        *args: Any,
        **about: Any,
    ) -> list[JobInfo]:
        """The jobs that wait and match, in the order of their pushes; for what can be said see below."""
        about.pop("count", None)
        sought, now = self._sought(handler, args, about), self.now()
        return [job for job in self._waiting() if not sought.differences(job, now)]

    def assert_enqueued(
        self,
        handler: Handler[..., Any] | Callable[..., Any] | str | None = None,
        /,
        *args: Any,
        count: int | None = None,
        **about: Any,
    ) -> list[JobInfo]:
        """Asserts that a job waits, or exactly `count`, and returns all that match.

        Args:
            handler: Whose job: a handler, its function, or a kind; any, if left out.
            *args: What it was pushed with, by position, as far as it matters.
            count: How many there must be.
            **about: What it was pushed with, by name, whichever way it was given: what is not named may be
                anything. And fields of the job: `queue`, `key`, `concurrency_key`, `priority`, `delay` (from
                now, in seconds), `run_at`, `deadline`, `timeout`, `headers` (some of them), `status`,
                `attempt`, `id`. For a handler with parameters of such names give arguments as `args=(...)`
                and `kwargs={...}`.

        Raises:
            AssertionError: It tells what is enqueued, and the nearest to what was looked for.
        """
        __tracebackhide__ = True
        sought, now, jobs = self._sought(handler, args, about), self.now(), self._waiting()
        found = [job for job in jobs if not sought.differences(job, now)]
        if (count is None and found) or count == len(found):
            return found
        if count is None or not found:
            lines = [f"no job {sought.shown()} is enqueued", *nearest(sought, jobs, now)]
        else:
            lines = [f"{len(found)} jobs {sought.shown()} are enqueued, not {count}"]
        raise AssertionError("\n".join([*lines, *listing(f"enqueued, {len(jobs)} in all:", jobs, now)]))

    def refute_enqueued(
        self,
        handler: Handler[..., Any] | Callable[..., Any] | str | None = None,
        /,
        *args: Any,
        **about: Any,
    ) -> None:
        """Asserts that no job waits that matches. What can be said: as for `assert_enqueued`.

        Raises:
            AssertionError: It tells which do.
        """
        __tracebackhide__ = True
        sought, now = self._sought(handler, args, about), self.now()
        found = [job for job in self._waiting() if not sought.differences(job, now)]
        if found:
            lines = listing(f"{len(found)} jobs {sought.shown()} are enqueued, none should be:", found, now)
            raise AssertionError("\n".join(lines))

    # ---- what the dispatcher tells ----------------------------------------------------------------------

    def pushed(self) -> None:
        """Something was pushed."""
        if self.inline and not self._busy:
            self.drain(raise_failures=True)

    async def apushed(self) -> None:
        """Something was pushed on an event loop."""
        if self.inline and not self._busy:
            await self.adrain(raise_failures=True)

    # ---- inside -----------------------------------------------------------------------------------------

    def _sought(self, handler: Any, args: tuple[Any, ...], about: dict[str, Any]) -> Sought:
        from forebay.testing._jobs import FIELDS

        more, named = about.pop("args", ()), about.pop("kwargs", {})
        fields = {name: about.pop(name) for name in list(about) if name in FIELDS}
        return Sought(self.dispatcher, handler, (*args, *more), {**about, **named}, fields)

    def _waiting(self) -> list[JobInfo]:
        """Every job that waits, the first pushed first."""
        jobs: list[JobInfo] = []
        while True:
            after = jobs[-1].id if jobs else None
            page = Dispatcher.list(self.dispatcher, status=WAITING, limit=_PAGE, after=after).jobs
            jobs += page
            if len(page) < _PAGE:
                return jobs[::-1]

    def _loop(self) -> asyncio.Runner:
        """Where coroutines run if no loop does: one for the stage, as what they use may be bound to it."""
        self._runner = self._runner or asyncio.Runner()
        return self._runner

    def _here(self, work: Generator[_Awaited, Any, T]) -> T:
        """Does the work; what it awaits runs on the stage's loop."""
        if asyncio._get_running_loop() and any(
            is_async for *_, is_async, _ in registered(self.dispatcher).values()
        ):
            text = "an event loop runs here already: await stage.adrain(), or stage.aperform()"
            raise InvalidError(text)
        try:
            awaited = next(work)
            while True:
                try:
                    result = self._loop().run(awaited.body, context=awaited.context)
                except BaseException as error:
                    awaited = work.throw(error)
                else:
                    awaited = work.send(result)
        except StopIteration as done:
            answer: T = done.value
            return answer

    async def _awaiting(self, work: Generator[_Awaited, Any, T]) -> T:
        """Does the work; what it awaits runs on the running loop."""
        loop = asyncio.get_running_loop()
        try:
            awaited = next(work)
            while True:
                try:
                    result = await loop.create_task(awaited.body, context=awaited.context)
                except BaseException as error:
                    awaited = work.throw(error)
                else:
                    awaited = work.send(result)
        except StopIteration as done:
            answer: T = done.value
            return answer

    def _work(
        self, raise_failures: bool | None, scheduled: bool, queue: str | None, limit: int
    ) -> Generator[_Awaited, Any, Report]:
        """Runs jobs. What is to be awaited is yielded, and its result or exception sent back."""
        if self._busy:
            raise InvalidError("a drain is under way: what a handler pushes runs in it, without another")
        runs: list[Run] = []
        self._busy = True
        try:
            while True:
                delivery = self._next(queue)
                if delivery is None:
                    if scheduled and self._skip():
                        continue
                    return Report(runs, self.waiting())
                if len(runs) == limit:
                    delivery.snooze(0)
                    raise DrainLimitError(_endless(runs, limit, self.waiting()))
                run = yield from self._attempt(self.dispatcher, delivery)
                runs.append(run)
                if run.error is not None and _raised(run.error, raise_failures):
                    raise run.error
        finally:
            self._busy = False

    def _next(self, queue: str | None) -> Delivery | None:
        """The next job that is due."""
        kinds, queues = list(registered(self.dispatcher)), None if queue is None else [queue]
        return Dispatcher.consumer(self.dispatcher, kinds, queues=queues).next(0) if kinds else None

    def _skip(self) -> bool:
        """Moves the clock to when the next job with a handler is due; false if there is none."""
        kinds = registered(self.dispatcher)
        due = [job.run_at for job in self._waiting() if job.status == "scheduled" and job.kind in kinds]
        if due:
            # A little more than a microsecond is lost where an instant becomes a datetime.
            self.advance(max(timedelta(0), min(due) - self.now()) + timedelta(microseconds=2))
        return bool(due)

    def _performance(
        self,
        handler: Handler[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: dict[str, Any],
    ) -> Generator[_Awaited, Any, Run]:
        """Runs one attempt apart from everything else."""
        apart, delivery = self._apart(handler, args, kwargs, options)
        try:
            return (yield from self._attempt(apart, delivery))
        finally:
            Dispatcher.stop(apart, 0)

    def _apart(
        self,
        handler: Handler[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: dict[str, Any],
    ) -> tuple[Dispatcher, Delivery]:
        """A job on a dispatcher of its own, at the beginning of the attempt that was asked for."""
        if handler.kind not in registered(self.dispatcher):
            raise InvalidError(f"no handler of kind {handler.kind!r} is registered on this stage")
        from forebay._forebay import rebound
        from forebay.testing._double import ELSEWHERE

        settings: dict[str, Any] = {k: v for k, v in self.dispatcher.settings.items() if k not in ELSEWHERE}
        clock = f"manual({round(self.now().timestamp() * 1000)})"
        apart = Dispatcher("memory:", **{**settings, "clock": clock})
        take_after(apart, self.dispatcher)
        number = options.pop("attempt", 1)
        own = rebound(handler, apart)
        pushed = (own.options(**options) if options else own).push(*args, **kwargs)
        if pushed.job().status == "scheduled":
            raise InvalidError("perform runs the job now: leave delay and run_at out")
        consumer = apart.consumer([handler.kind])
        for _ in range(1, number):
            earlier = consumer.next(0)
            if earlier is not None:
                earlier.retry(0)
                apart.advance(0)
        delivery = consumer.next(0)
        if delivery is None:
            text = apart.explain(pushed)
            raise InvalidError(f"the job cannot start its attempt {number}: {text}")
        return apart, delivery

    def _attempt(self, at: Dispatcher, delivery: Delivery) -> Generator[_Awaited, Any, Run]:
        """Runs the attempt that has been claimed."""
        context = contextvars.copy_context()
        result, error = None, None
        try:
            result = context.run(call_handler, at, delivery)
            # One that a plain function returns is refused as its result, as it is in the program.
            if iscoroutine(result) and registered(at)[delivery.kind][3]:
                result = yield _Awaited(result, context)
        except BaseException as raised:
            result, error = None, raised
        late = False
        try:
            if error is None:
                try:
                    delivery.complete(result)
                except EncodeError as odd:
                    result, error = None, odd
            if error is not None:
                trace = error.__traceback__
                delivery.fail(error)
                # The dispatcher keeps its text, and takes it away as it holds every frame.
                error.__traceback__ = trace
        except StaleLease:
            late = True
        if error is not None and _leaves(error):
            raise error
        return Run(*_became(at, delivery, error, late), result, error)


class _Awaited(NamedTuple):
    """What is to be awaited, and in which context."""

    body: Coroutine[Any, Any, Any]
    context: contextvars.Context


def _became(
    at: Dispatcher, delivery: Delivery, error: BaseException | None, late: bool
) -> tuple[JobInfo, int, str]:
    """The job after an attempt, the attempt's number, and what became of it."""
    try:
        job = Dispatcher.get(at, delivery.id)
    except NotFoundError:
        raise InvalidError(
            "the job is forgotten already: keep_finished and retention are too short"
        ) from None
    if late:
        kind = job.history[-1].error_kind if job.history else job.error_kind
        outcome = {"timed_out": "timed_out", "cancelled": "cancelled"}.get(kind or "", "lost")
        return job, delivery.attempt, "cancelled" if job.status == "cancelled" else outcome
    if job.finished:
        return job, delivery.attempt, job.status
    asked = {Snooze: "snoozed", RateLimited: "rate_limited"}
    outcome = next((name for cls, name in asked.items() if isinstance(error, cls)), "retried")
    return job, delivery.attempt, outcome


def _raised(error: BaseException, raise_failures: bool | None) -> bool:
    """Whether a drain raises what a handler has raised."""
    if raise_failures is None:
        return isinstance(error, AssertionError)
    return raise_failures and not isinstance(error, Retry | Snooze | RateLimited)


def _leaves(error: BaseException) -> bool:
    """Whether an exception ends more than its attempt: the program, or the test."""
    test = sys.modules.get("_pytest.outcomes")
    ends = (KeyboardInterrupt, SystemExit, *([test.OutcomeException] if test else []))
    return isinstance(error, ends)


def _endless(runs: list[Run], limit: int, left: int) -> str:
    last = ", ".join(dict.fromkeys(run.kind for run in runs[-20:]))
    return (
        f"{limit} attempts have run and jobs are still due, {left} wait: does a handler push itself?"
        f" The last were {last}. If so many are right, give drain a higher limit"
    )
