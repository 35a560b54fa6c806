"""The dispatcher: the native half with its threads."""

from __future__ import annotations

import signal
import threading
import warnings
import weakref
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Literal,
    NamedTuple,
    ParamSpec,
    Protocol,
    TypeVar,
    cast,
    overload,
)

from forebay import _exit
from forebay._forebay import (
    AsyncHandler,
    AsyncJobHandler,
    Core,
    Courier,
    Forwarder,
    Handler,
    Job,
    JobHandler,
    JobInfo,
    Worker,
)
from forebay.errors import ClosedError, InvalidError, WaitTimeout

if TYPE_CHECKING:
    from datetime import datetime
    from types import TracebackType
    from typing import Self, Unpack

    from forebay._async import Crew
    from forebay._types import (
        CodecOrName,
        Delay,
        ForwardOptions,
        Id,
        KindOptions,
        OptionValue,
        Url,
        Variables,
    )

_SLICE = 0.1
"""How long `run` may be deaf to a signal, in seconds."""

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


opened_as: Callable[[type[Dispatcher], Url, dict[str, Any]], Dispatcher] | None = None
"""What opens dispatchers instead, while `forebay.testing.redirect` says so."""


class Page(NamedTuple):
    """One page of a listing."""

    jobs: list[JobInfo]
    """The jobs, newest first."""
    total: int
    """How many jobs match in all, on every page."""


class StopReport(NamedTuple):
    """What a stop did."""

    handed_back: int
    """Running jobs that did not finish within the grace and went back to the queue."""
    waiting: int
    """Jobs that still wait, those handed back among them."""


class _Fresh(Protocol[P, R_co]):
    """An instance of a class that is a handler."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...


class _Register(Protocol):
    """Registers what it is called with."""

    @overload
    def __call__(self, function: type[_Fresh[P, Coroutine[Any, Any, R]]], /) -> AsyncHandler[P, R]: ...
    @overload
    def __call__(self, function: type[_Fresh[P, R]], /) -> Handler[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncHandler[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Handler[P, R]: ...
    def __call__(self, function: Callable[..., Any], /) -> Any: ...


class _RegisterWithJob(Protocol):
    """Registers what it is called with, which takes its job first."""

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, function: Callable[Concatenate[Job, P], Coroutine[Any, Any, R]], /
    ) -> AsyncJobHandler[P, R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[Job, P], R], /) -> JobHandler[P, R]: ...
    def __call__(self, function: Callable[..., Any], /) -> Any: ...


class Dispatcher(Core):
    """A queue of jobs with everything around it.

    `url` names the engine: "memory:" lives in this process, "sqlite:/var/lib/app/jobs.db" keeps jobs in a
    file, which a path names as well. Options are keywords, the same as everywhere (see
    docs/configuration.md): numbers are seconds where a duration is wanted.

    With a file, what an accepted job survives is its durability: "disk", unless the option `durability` or
    the push itself says "os" or "memory". A push returns when that is reached; threads that push at the same
    time share the wait. Payloads and results are then `bytes`, what JSON can hold, or what the annotations of
    their handler say; without one, handlers get what was written: a tuple comes as a list. Several processes
    may have one file if each says `shared=True`.

    `push` waits, `await d.apush(...)` does not keep an event loop waiting; both let other threads run.

    As a context manager it starts its workers on entry and stops on exit: running jobs get the grace to
    finish, jobs that wait are left (in the file, if there is one). Call `drain` first to have them run.
    """

    def __new__(
        cls,
        url: Url = "memory:",
        *,
        codec: CodecOrName = "json",
        by_reference: bool = True,
        context: Variables = None,
        **options: OptionValue,
    ) -> Self:
        """Opens a dispatcher."""
        if opened_as is not None:
            return cast(
                "Self", opened_as(cls, url, {**options, "codec": codec, "by_reference": by_reference})
            )
        return super().__new__(cls, url, codec=codec, by_reference=by_reference, **options)

    def __init__(
        self,
        url: Url = "memory:",
        *,
        codec: CodecOrName = "json",
        by_reference: bool = True,
        context: Variables = None,
        **options: OptionValue,
    ) -> None:
        """Opens a dispatcher.

        Args:
            url: The engine, or the path of a file.
            codec: What payloads and results are written with where they leave the process: "json"; "msgpack",
                with the library msgpack or msgspec; "pickle", which runs whatever code whoever can write to
                the file has put there; or a `forebay.Codec`. They are read by what wrote them, but pickles
                only by those who say "pickle".
            by_reference: Whether values travel by reference where they stay in this process. If not, they
                are written and read there too: handlers get copies, and what a file refuses is refused.
            context: `contextvars.ContextVar`s whose values, which are text, travel with a job: as they are
                where it is pushed, they are in its handler, sync or async, in whatever process that runs.
                They are its headers "context-" and the name.
            **options: See docs/configuration.md.
        """
        self._url = url
        self._threads: list[threading.Thread] = []
        # How many of them no handler has asked to end.
        self._at_work = 0
        self._loop_thread: threading.Thread | None = None
        self._crew: Crew | None = None
        self._interrupter: threading.Thread | None = None
        self._sync = self._async = self._interrupt = False
        # How many threads run sync handlers once there are any; 0 before the start.
        self._wanted = 0
        # What is called once somebody has asked for a stop.
        self._on_stop: list[Callable[[], object]] = []
        self._couriers: list[threading.Thread] = []
        self._starting = threading.Lock()
        # Locked until somebody asks for a stop. A lock, and not an Event: a signal handler may release it
        # while the main thread is in the middle of waiting for it.
        self._stopped = threading.Lock()
        self._stopped.acquire()
        if context is not None:
            from forebay import _context

            _context.carry(self, context)
        _exit.watch(self)

    # ---- handlers ---------------------------------------------------------------------------------------

    @overload
    def handler(self, function: type[_Fresh[P, Coroutine[Any, Any, R]]], /) -> AsyncHandler[P, R]: ...
    @overload
    def handler(self, function: type[_Fresh[P, R]], /) -> Handler[P, R]: ...
    @overload
    def handler(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncHandler[P, R]: ...
    @overload
    def handler(self, function: Callable[P, R], /) -> Handler[P, R]: ...
    @overload
    def handler(
        self,
        function: None = None,
        /,
        *,
        kind: str | None = None,
        pass_job: Literal[False] = False,
        interrupt: bool = False,
        codec: CodecOrName | None = None,
        **options: Unpack[KindOptions],
    ) -> _Register: ...
    @overload
    def handler(
        self,
        function: None = None,
        /,
        *,
        kind: str | None = None,
        pass_job: Literal[True],
        interrupt: bool = False,
        codec: CodecOrName | None = None,
        **options: Unpack[KindOptions],
    ) -> _RegisterWithJob: ...
    def handler(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        kind: str | None = None,
        pass_job: bool = False,
        interrupt: bool = False,
        codec: CodecOrName | None = None,
        **options: Unpack[KindOptions],
    ) -> Any:
        """Registers a function, or a class of which each attempt calls a new instance.

        An `async def`, or what is called like one, makes an `AsyncHandler`: its jobs run on an event loop, as
        many at once as `concurrency` allows, each in a `contextvars` context of its own. When a job is
        cancelled, runs over its time, or is handed back at the end of a stop, its coroutine gets
        `asyncio.CancelledError` where it waits. What a handler starts with `asyncio.create_task` is its own
        to await.

        Where its values leave the process, what its annotations name is written by them and read again:
        dataclasses, named tuples, typed dicts, enums, datetimes and the like, UUIDs, Decimals, paths, bytes,
        sets, tuples, models of pydantic and structs of msgspec, and lists, dicts and unions of these. What
        does not fit its annotation is refused at the push, with its path; a job that cannot be read fails at
        once, and is kept. Other values must be what JSON can hold. By reference nothing is touched.

        Generators are refused: a call of one runs nothing of its body.

        Args:
            function: What runs the jobs; left out when this is called with options.
            kind: The kind of its jobs; the function's name if left out, which a `functools.partial` or an
                object does not have.
            pass_job: Whether the function takes its `Job` first.
            interrupt: Whether `JobCancelled` is raised in the function, once, when its job is cancelled, runs
                over its time, or is handed back at the end of a stop. It comes between two bytecodes of
                Python, wherever that is: never in the midst of a call that blocks, such as `time.sleep` or a
                read from a socket, but after it; and it may come in a `finally`, or in a destructor, where
                Python prints it and goes on. Whatever the function then does, the job's end is what it would
                have been: cancelled, tried again, or back in the queue. Not for `async def`, which always
                hears of it.
            codec: What its payloads and results are written with, if not with the dispatcher's codec.
            **options: What holds for its kind. `concurrency`: the most of its jobs at once. `timeout`: how
                long one attempt may take. `max_attempts`: how often a job may run in all. `retry`: the pause
                between attempts, such as "constant(5s)" or "exponential(1s, cap=5m, jitter=0.1)". `rate`,
                `adaptive`, `breaker` and `retry_budget` are against overload; docs/configuration.md has all.
        """

        def register(function: Callable[..., Any]) -> Any:
            from forebay import _function  # It brings `inspect`, as long to load as all the rest.

            is_async = _function.check(function)
            if is_async and interrupt:
                raise InvalidError("an async handler gets CancelledError anyway; leave interrupt out")
            handler = self.register(
                function,
                kind if kind is not None else _function.name(function),
                pass_job=pass_job,
                fresh=isinstance(function, type),
                interrupt=interrupt,
                is_async=is_async,
                codec=codec,
                **options,
            )
            self._staff(sync=not is_async, is_async=is_async, interrupt=interrupt)
            return handler

        return register if function is None else register(function)

    # ---- passing on -------------------------------------------------------------------------------------

    def forward(
        self,
        queue: str,
        to: Callable[[list[Job]], int | None] | Dispatcher | Url,
        *,
        to_queue: str | None = None,
        **options: Unpack[ForwardOptions],
    ) -> Forwarder:
        """Passes the jobs of a queue on from now on, in order and whatever their kinds; none runs here.

        While nothing can be delivered they wait here, and pushes go on up to the capacity of the queue. A job
        has ended here once it was taken; where it could arrive twice is in docs/forwarding.md.

        Args:
            queue: Whose jobs.
            to: The URL or the path of another dispatcher, which is opened when there is a job for it; a
                dispatcher; or a function. A function is called on a thread of its own with a list of up to
                `batch` jobs, and returns how many it took, the first ones; None and True are all of them,
                False is none. The others are offered again before any other. If it raises, it took none:
                RateLimited, Retry and Snooze say when to come again; Fatal that the first job will never be
                taken, which then fails; and anything else that deliveries fail, which are tried again after
                pauses that grow.
            to_queue: The queue of the other dispatcher; that of the same name if left out.
            **options: `batch`: the most jobs at once. `retry`: the pause after a delivery that failed, for
                example "exponential(100ms, cap=30s, jitter=0.1)".
        """
        if isinstance(to, Dispatcher) or not callable(to):
            return self.begin_forward(queue, to, to_queue=to_queue, **options)
        courier = Courier(to)
        forwarder = self.begin_forward(queue, courier, to_queue=to_queue, **options)
        thread = _exit.worker(self.pulse(), f"forward-{queue}", courier.run)
        try:
            thread.start()
        except RuntimeError:
            with suppress(WaitTimeout):
                forwarder.stop(0)
            raise
        self._couriers.append(thread)
        return forwarder

    # ---- life -------------------------------------------------------------------------------------------

    def serve(self, queues: Sequence[str]) -> None:
        """Has the workers of this dispatcher take jobs of these queues only.

        The others are for whoever else has the file: other processes, which serve them or every queue. Pushes
        go to any queue as before, and so do consumers of the program's own. Say it once, before the start:
        `with`, `async with`, `start`, `run` or `arun`; the last three take the same as `queues`.

        Raises:
            InvalidError: There is no queue, or a name cannot be one, or it was said before or too late.
        """
        super().serve(queues)

    def start(self, threads: int | None = None, *, queues: Sequence[str] | None = None) -> None:
        """Starts worker threads, as many as jobs may run at once unless `threads` says less.

        With `queues` they serve these only, as `serve` says.

        Threads are started once there is a handler for them: those for sync handlers, and one with an event
        loop, `forebay-worker-loop`, for async ones. To run those on a loop of your own, use `async with`
        instead. A second call does nothing. Python stops the dispatcher when it ends, if nobody has by then.
        A program that only pushes need not call it.
        """
        if threads is not None and threads < 1:
            raise InvalidError(
                f"threads is {threads}; at least 1 runs jobs, and whoever only pushes starts none"
            )
        self.check_open()
        with self._starting:
            if queues is not None:
                self.serve(queues)
            if self._wanted:
                return
            self._wanted = self.concurrency if threads is None else threads
        self._staff()

    def _staff(self, *, sync: bool = False, is_async: bool = False, interrupt: bool = False) -> None:
        """Starts the threads that are wanted, for the handlers there are, and are not there yet."""
        with self._starting:
            self._sync |= sync
            self._async |= is_async
            self._interrupt |= interrupt
            if not self._wanted or self.stopping:
                return
            # No thread holds the dispatcher: dropping the last reference to it stops them.
            pulse, owner = self.pulse(), weakref.ref(self)
            if self._sync and not self._threads:
                for number in range(self._wanted):
                    thread = _exit.worker(pulse, f"{number}", _work, self.worker(), owner)
                    self._threads.append(thread)
                    thread.start()
                    self._at_work += 1
            if self._interrupt and self._interrupter is None:
                self._interrupter = _exit.worker(pulse, "interrupter", self.interrupter().run)
                self._interrupter.start()
            if self._async and self._crew is None and self._loop_thread is None:
                self._loop_thread = _exit.worker(pulse, "loop", _work_on_loop, owner)
                self._loop_thread.start()

    def _leave(self) -> bool:
        """Notes that the handler of a worker has asked its thread to end; whether that was the last one."""
        with self._starting:
            self._at_work -= 1
            return not self._at_work

    def run(
        self,
        threads: int | None = None,
        *,
        queues: Sequence[str] | None = None,
        grace: Delay | None = None,
    ) -> None:
        """Starts the workers and waits until somebody stops the dispatcher; then stops it.

        `threads` and `queues` are as for `start`, `grace` as for `stop`.

        On the main thread, SIGINT and SIGTERM are such somebodies: the first one lets running jobs finish
        within the grace, a second SIGINT hands them back at once and raises KeyboardInterrupt. Another
        SIGTERM changes nothing: who ends a group of processes may send it twice. It is left alone if the
        program has a handler of its own for it.
        """
        self.check_open()
        with self._sigterm():
            try:
                try:
                    # Somebody may ask for the stop before there is anything to stop.
                    with suppress(ClosedError):
                        self.start(threads, queues=queues)
                    # In slices: a signal that comes on the way into a wait does not end it.
                    while not self._stopped.acquire(timeout=_SLICE):
                        pass
                    self._announce_stop()
                except KeyboardInterrupt:
                    if self.stopping:
                        raise  # It is the second signal: the first one was a SIGTERM.
                    self.request_stop()
                self.stop(grace)
            except KeyboardInterrupt:
                self.stop(0)
                raise

    def request_stop(self) -> None:
        """Begins to stop, and returns at once. Safe from handlers and from signal handlers."""
        self.begin_stop()
        self._announce_stop()

    def stop(self, grace: Delay | None = None) -> StopReport:
        """Stops: starts no more jobs, gives running ones the grace to finish, hands the others back.

        Then the threads end and the dump file is written, if there is one. A second call reports the same.
        From a handler it raises WouldDeadlock; `request_stop` is for those. So it does on the event loop that
        runs async handlers, which could not end meanwhile: await `astop` there.
        """
        if self._crew is not None:
            self._crew.expect_stop("astop")
        report = StopReport(*self.finish_stop(grace))
        self._announce_stop()
        others = [thread for thread in (self._loop_thread, self._interrupter) if thread is not None]
        _exit.join([*self._threads, *others, *self._couriers])
        # The loop may still wait for what coroutines have begun on other threads; these wait for nothing.
        _exit.join_slow(self._threads)
        return report

    def drain(self, timeout: Delay | None = None) -> None:
        """Waits until no job is queued or running; for jobs scheduled for later it does not wait.

        Raises WaitTimeout after `timeout`, and WouldDeadlock from a handler and on the event loop that runs
        async handlers: await `adrain` there.
        """
        if self._crew is not None:
            self._crew.refuse("adrain")
        super().drain(timeout)

    def __enter__(self) -> Self:
        """Starts the workers."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Stops, and warns of jobs that still waited and are lost now.

        Call `drain` before the end of the block to wait for them, or keep them: in a `sqlite:` file, or in a
        `dump_file`.
        """
        self._warn_of_lost(self.stop(), error)

    async def __aenter__(self) -> Self:
        """Starts: async handlers run on this event loop, sync ones on threads."""
        from forebay import _async

        _async.start(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Stops without holding the loop up, and warns of jobs that still waited and are lost now.

        Await `adrain` before the end of the block to wait for them.
        """
        self._warn_of_lost(await self.astop(), error)

    async def arun(self, *, queues: Sequence[str] | None = None) -> None:
        """Starts on this event loop, as `async with` does, waits until somebody asks for a stop, and stops.

        With `queues` it serves these only, as `serve` says.

        On the main thread SIGINT and SIGTERM ask for it: the first one lets running jobs finish within the
        grace, a second SIGINT hands them back at once and raises KeyboardInterrupt. A signal that the program
        has a handler of its own for is left alone, and what was set before holds again afterwards. Cancelling
        the task that awaits this stops as well.
        """
        from forebay import _async

        if queues is not None:
            self.serve(queues)
        await _async.run(self)

    async def astop(self, grace: Delay | None = None) -> StopReport:
        """The same as `stop`, and the event loop goes on meanwhile.

        When the grace has passed, what still runs is handed back, and coroutines get CancelledError. From a
        handler it raises WouldDeadlock; `request_stop` is for those.
        """
        from forebay import _async

        return await _async.stop(self, grace)

    async def adrain(self, timeout: Delay | None = None) -> None:
        """The same as `drain`, and the event loop goes on meanwhile."""
        from forebay import _async

        await _async.drain(self, timeout)

    def _warn_of_lost(self, report: StopReport, error: BaseException | None) -> None:
        kept = self.durability != "memory" or self.settings["dump_file"] != "none"
        if report.waiting and error is None and not kept:
            text = f"{report.waiting} jobs still waited and are lost: call drain() first, or set dump_file"
            warnings.warn(text, RuntimeWarning, stacklevel=3)

    def _announce_stop(self) -> None:
        """Lets go whoever waits in `run`."""
        with suppress(RuntimeError):  # Somebody has before.
            self._stopped.release()
        for tell in self._on_stop:
            tell()

    @contextmanager
    def _sigterm(self) -> Iterator[None]:
        """SIGTERM asks for a stop meanwhile, where that is ours to say."""
        main = threading.current_thread() is threading.main_thread()
        if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
            yield
            return
        signal.signal(signal.SIGTERM, lambda *_: self.request_stop())
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    # ---- looking ----------------------------------------------------------------------------------------

    def list(
        self,
        *,
        queue: str | None = None,
        kind: str | None = None,
        status: str | tuple[str, ...] | None = None,
        key: str | None = None,
        created_from: datetime | None = None,
        created_before: datetime | None = None,
        after: Id | None = None,
        limit: int | None = None,
    ) -> Page:
        """One page of the jobs that match everything given, newest first.

        Args:
            queue: Only of this queue.
            kind: Only of this kind.
            status: Only in this state, or in one of these.
            key: Only with this idempotency key.
            created_from: Only pushed then or later.
            created_before: Only pushed before.
            after: Continue after this job, the last one of the page before.
            limit: The most jobs on the page, up to 10 000; 20 if left out.
        """
        return Page(
            *self.list_jobs(
                queue=queue,
                kind=kind,
                status=status,
                key=key,
                created_from=created_from,
                created_before=created_before,
                after=after,
                limit=limit,
            )
        )


def _work(worker: Worker, owner: weakref.ref[Dispatcher]) -> None:
    """The body of a worker thread."""
    if worker.run():
        return
    # A handler raised SystemExit and so ended this thread. With the last one gone, the dispatcher could do
    # nothing but look alive.
    dispatcher = owner()
    if dispatcher is not None and dispatcher._leave():
        dispatcher.request_stop()


def _work_on_loop(owner: weakref.ref[Dispatcher]) -> None:
    """The body of the thread that has an event loop."""
    from forebay import _async

    _async.work(owner)
