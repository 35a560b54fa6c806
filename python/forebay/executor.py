"""`forebay.Executor`, a `concurrent.futures.Executor` with retries, timeouts, bounds and priorities."""

from __future__ import annotations

import itertools
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from forebay._forebay import Hand, Promise, Submitter, refuse_calls, seconds
from forebay._types import CallOptions
from forebay.errors import InvalidError

if TYPE_CHECKING:
    from typing import Self, Unpack

    from forebay._types import Delay

T = TypeVar("T")

__all__ = ["CallOptions", "Executor", "Future"]


class Future(Promise[T], futures.Future[T]):  # type: ignore[override]
    """What `Executor.submit` returns: a `concurrent.futures.Future`, with all that can be done with one.

    It is made of one object; the condition and the lists of the original are made when somebody looks for
    them, as `concurrent.futures.wait` and `as_completed` do.
    """

    def __init__(self) -> None:
        """One that nobody runs: for those who call `set_result` themselves."""


class Executor(Submitter, futures.Executor):
    """A pool of threads as `concurrent.futures.ThreadPoolExecutor` is one, with the means of a job queue.

        with forebay.Executor(8, max_attempts=3, retry="exponential(100ms)") as executor:
            future = executor.submit(fetch, url)
            urgent = executor.options(priority=10, timeout="5s").submit(fetch, other)
            for page in executor.map(fetch, urls):
                ...

    Whatever takes an executor takes this one: asyncio (`loop.run_in_executor`, `asyncio.wrap_future`) and
    everybody else. Functions, arguments, results and exceptions travel by reference. Python waits at its end
    for the calls that were submitted, as it does for those of the original.

    A call that raises an Exception is made again while it has attempts; what it raised last is then the
    exception of the future, with its traceback. `forebay.Retry`, `Snooze`, `RateLimited` and `Fatal` say more
    exactly what is to happen. Threads cannot be stopped: a call that takes longer than its timeout is given
    up, its future has JobFailed of kind "timed_out", and its thread is busy until the function returns.
    """

    _numbers = itertools.count()

    def __init__(
        self,
        max_workers: int | None = None,
        thread_name_prefix: str = "",
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_attempts: int = 1,
        retry: str | None = None,
        timeout: Delay | None = None,
        capacity: int = 0,
        on_full: str = "reject",
    ) -> None:
        """Opens it; threads begin as they are needed, and all at once for calls that may begin by themselves.

        Those are calls with a delay, a timeout or more than one attempt.

        Args:
            max_workers: The most threads; the number of processors and 4, up to 32, if left out.
            thread_name_prefix: How the names of the threads begin.
            initializer: Called at the beginning of each thread. If it raises, the executor is broken: its
                calls end with BrokenThreadPool, and so does every submit.
            initargs: With what it is called.
            max_attempts: How often a call may be made in all, if it raises an Exception.
            retry: The pause between attempts, such as "constant(1s)" or
                "exponential(100ms, cap=30s, jitter=0.1)".
            timeout: How long one attempt may take, in seconds, as a timedelta, or as a text such as "5s".
            capacity: The most calls that may wait; 0 is without bound.
            on_full: What a submit does when so many wait: "reject" raises QueueFull, "block(5s)" waits for
                room, and "drop_newest", "drop_oldest", "drop_lowest" and "sample(0.1)" end one of the futures
                with Shed.

        Raises:
            ValueError: A number is not one that can be.
            TypeError: The initializer cannot be called.
        """
        if max_workers is None:
            max_workers = min(32, _processors() + 4)
        if max_workers <= 0:
            raise InvalidError("max_workers must be greater than 0")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        self._open(
            max_workers,
            max_attempts=max_attempts,
            retry=retry or "exponential(1s, cap=5m, jitter=0.1)",
            timeout=timeout,
            capacity=capacity,
            on_full=on_full,
        )
        prefix = thread_name_prefix or f"forebay-executor-{next(self._numbers)}"
        self._staff = _Staff(prefix, initializer, initargs)

    def options(self, **options: Unpack[CallOptions]) -> Self:
        """The same executor, whose calls have these options: the same threads, and the same queue.

        Args:
            **options: As `CallOptions` tells; None leaves one as it is here.
        """
        _check_options(options)
        other = type(self).__new__(type(self))
        other._share(self, dict(options))
        other._staff = self._staff
        return other

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: Delay | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """The results of `fn` called with the first of all iterables, the second, and so on, in this order.

        The iterables are read at once, unless there is a `buffersize`. Results that nobody reads any more are
        cancelled, if they have not begun.

        Args:
            fn: What is called.
            *iterables: With what; the shortest one ends it.
            timeout: How long after this call the last result may come.
            chunksize: So many calls make one job, which is less work for the queue, and is retried as one.
            buffersize: The most calls, or chunks, whose results were not read; the iterables are read on as
                results are.

        Raises:
            WaitTimeout: By the iterator, which is a TimeoutError: a result did not come in time.
        """
        if chunksize < 1:
            raise InvalidError("chunksize must be >= 1.")
        if buffersize is not None and not isinstance(buffersize, int):
            raise TypeError("buffersize must be an integer or None")
        if buffersize is not None and buffersize < 1:
            raise InvalidError("buffersize must be None or > 0")
        limit = None if timeout is None else _seconds(timeout)
        end = None if limit is None else time.monotonic() + limit
        rows = zip(*iterables, strict=False)
        if chunksize == 1:
            submits = itertools.starmap(partial(self.submit, fn), rows)
            return _results(submits, end, buffersize)
        chunks = iter(lambda: list(itertools.islice(rows, chunksize)), [])
        whole: Iterator[futures.Future[list[T]]] = (self.submit(_chunk, fn, chunk) for chunk in chunks)
        results: Iterator[list[T]] = _results(whole, end, buffersize)
        return itertools.chain.from_iterable(results)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accepts no more calls, and frees the threads once those that were submitted have been made.

        Args:
            wait: Whether to wait for that here. If not, Python does at its end.
            cancel_futures: Whether the calls that have not begun are cancelled.
        """
        self._close(cancel_futures)
        if wait:
            for thread in self._staff.all():
                thread.join()

    def _hire(self) -> None:
        """One more thread, if it may have one; called by `submit` when all are busy."""
        hand = self._hand()
        if hand is not None:
            self._staff.begin(hand)

    @property
    def _threads(self) -> set[threading.Thread]:
        """Those that make calls, by the name that they have in the original."""
        return self._staff.threads


class _Staff:
    """The threads of an executor, which do not hold it."""

    def __init__(
        self, prefix: str, initializer: Callable[..., object] | None, initargs: tuple[Any, ...]
    ) -> None:
        self.threads: set[threading.Thread] = set()
        self._lock = threading.Lock()
        self._prefix = prefix
        self._numbers = itertools.count()
        self._initializer = initializer
        self._initargs = initargs

    def begin(self, hand: Hand) -> None:
        """Starts a thread that makes calls."""
        name = f"{self._prefix}_{next(self._numbers)}"
        work = (hand, self._initializer, self._initargs)
        try:
            # It may shut the executor down at once, and whoever does waits for all threads.
            with self._lock:
                thread = threading.Thread(target=_work, args=work, name=name, daemon=False)
                self.threads.add(_start(thread, hand))
        except BaseException:
            hand.leave()
            raise

    def all(self) -> list[threading.Thread]:
        """The threads that have begun by now."""
        with self._lock:
            return list(self.threads)


_at_work: weakref.WeakKeyDictionary[threading.Thread, Hand] = weakref.WeakKeyDictionary()
"""Every thread of ours, and what closes its pool."""


def _start(thread: threading.Thread, hand: Hand) -> threading.Thread:
    _at_work[thread] = hand
    thread.start()
    return thread


def _work(hand: Hand, initializer: Callable[..., object] | None, initargs: tuple[Any, ...]) -> None:
    """The body of a thread that makes calls."""
    try:
        if initializer is not None:
            try:
                initializer(*initargs)
            except BaseException:
                _log().critical("Exception in initializer:", exc_info=True)
                hand.give_up("A thread initializer failed, the thread pool is not usable anymore")
                return
        hand.run()
    finally:
        hand.leave()


def listen(hand: Hand) -> None:
    """Starts the thread that hears of timeouts and deadlines."""
    _start(threading.Thread(target=hand.listen, name="forebay-executor-timeouts", daemon=False), hand)


def callback_failed(future: Future[Any], error: Exception) -> None:
    """Tells of a callback that raised, as the original does."""
    _log().error("exception calling callback for %r", future, exc_info=error)


def _log() -> Any:
    from concurrent.futures import _base

    return _base.LOGGER


def _processors() -> int:
    return getattr(os, "process_cpu_count", os.cpu_count)() or 1


def _seconds(timeout: Delay) -> float | None:
    """The seconds; a time that is over already, as the original takes it, is none."""
    if isinstance(timeout, int | float) and timeout < 0:
        return 0.0
    return seconds("timeout", timeout)


def _chunk(fn: Callable[..., T], rows: list[tuple[Any, ...]]) -> list[T]:
    return [fn(*row) for row in rows]


def _results(submits: Iterator[futures.Future[T]], end: float | None, buffersize: int | None) -> Iterator[T]:
    """What is submitted, now or as results are read, and then its results."""
    if buffersize is None:
        # All of them: nothing holds the executor until the last result has been read.
        return _read(deque(submits), iter(()), end)
    return _read(deque(itertools.islice(submits, buffersize)), submits, end)


def _read(
    waiting: deque[futures.Future[T]], submits: Iterator[futures.Future[T]], end: float | None
) -> Iterator[T]:
    try:
        while waiting:
            # Nothing here holds what has been read, or what it raised.
            waiting.extend(itertools.islice(submits, 1))
            if end is None:
                yield _take(waiting.popleft(), None)
            else:
                yield _take(waiting.popleft(), end - time.monotonic())
    finally:
        for future in waiting:
            future.cancel()


def _take(future: futures.Future[T], timeout: float | None) -> T:
    try:
        return future.result(timeout)
    finally:
        future.cancel()
        del future


def _check_options(options: CallOptions) -> None:
    for name in options:
        if name not in CallOptions.__annotations__:
            known = ", ".join(CallOptions.__annotations__)
            raise TypeError(f"{name!r} is not an option of a call; there are: {known}")


def _at_exit() -> None:
    """Python ends: what was submitted is still called, and nothing more is accepted."""
    refuse_calls()
    for hand in list(_at_work.values()):
        hand.close()
    for thread in list(_at_work):
        thread.join()


if hasattr(threading, "_register_atexit"):
    threading._register_atexit(_at_exit)
else:
    import atexit

    atexit.register(_at_exit)
