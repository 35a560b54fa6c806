"""What runs Python functions as jobs: Forebay in its several ways, and its peers.

A contender is opened with a number of threads and the function to run; what is opened pushes one payload, and
waits until everything that was pushed has run.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

Function = Callable[..., object]
Handle = Callable[[object], Coroutine[Any, Any, None]]


class Opened(Protocol):
    """A contender at work."""

    def run(self, payloads: Iterable[object]) -> None:
        """Pushes a job for each of them; need not wait."""

    def wait(self) -> None:
        """Waits for what the count of calls does not show."""


@dataclass(frozen=True)
class Contender:
    """A way of having functions run."""

    title: str
    open: Callable[[int, Function], Opened]


class Counted:
    """A function that counts its calls and says when there were enough."""

    def __init__(self) -> None:
        """Nothing is expected yet."""
        self.calls = itertools.count(1)
        self.enough = threading.Event()
        self.target = 0

    def expect(self, more: int) -> None:
        """Waits will be for so many more calls."""
        self.target += more
        self.enough.clear()

    def function(self) -> Function:
        """The function to run as jobs: all it does is count."""
        calls, enough = self.calls, self.enough

        def noop(payload: object, b: int = 0) -> None:
            if next(calls) == self.target:
                enough.set()

        return noop


class _Executor:
    def __init__(self, threads: int, function: Function) -> None:
        from concurrent.futures import ThreadPoolExecutor

        self.pool, self.function = ThreadPoolExecutor(threads), function

    def run(self, payloads: Iterable[object]) -> None:
        submit, function = self.pool.submit, self.function
        for payload in payloads:
            submit(function, payload)

    def wait(self) -> None:
        pass


class _ExecutorResults(_Executor):
    def run(self, payloads: Iterable[object]) -> None:
        submit, function = self.pool.submit, self.function
        for future in [submit(function, payload) for payload in payloads]:
            future.result()


class _ExecutorMap(_Executor):
    """`map`, whose results are read."""

    def run(self, payloads: Iterable[object]) -> None:
        for _ in self.pool.map(self.function, payloads):
            pass


class _ForebayExecutor(_Executor):
    def __init__(self, threads: int, function: Function) -> None:
        from forebay.executor import Executor

        self.pool, self.function = Executor(threads), function


class _ForebayExecutorResults(_ForebayExecutor, _ExecutorResults):
    pass


class _ForebayExecutorMap(_ForebayExecutor, _ExecutorMap):
    pass


class _ForebayExecutorChunks(_ForebayExecutor):
    """`map` with 64 calls to a job."""

    def run(self, payloads: Iterable[object]) -> None:
        for _ in self.pool.map(self.function, payloads, chunksize=64):
            pass


class _ForebayExecutorRetries(_ExecutorResults):
    """What costs something: attempts, and a bound."""

    def __init__(self, threads: int, function: Function) -> None:
        from forebay.executor import Executor

        self.pool = Executor(threads, max_attempts=3, capacity=10_000_000)
        self.function = function


class _ThreadPool:
    def __init__(self, threads: int, function: Function) -> None:
        from multiprocessing.pool import ThreadPool

        self.pool, self.function = ThreadPool(threads), function

    def run(self, payloads: Iterable[object]) -> None:
        apply_async, function = self.pool.apply_async, self.function
        for payload in payloads:
            apply_async(function, (payload,))

    def wait(self) -> None:
        pass


async def work_off(queue: asyncio.Queue[object], handle: Handle) -> None:
    """A worker on a queue of asyncio's, until it is cancelled."""
    while True:
        payload = await queue.get()
        await handle(payload)
        queue.task_done()


class _AsyncioQueue:
    """A queue of a running loop, with as many workers as are asked for; the handlers are coroutines."""

    def __init__(self, workers: int, function: Function) -> None:
        self.workers, self.function = workers, function

    def run(self, payloads: Iterable[object]) -> None:
        asyncio.run(self._all(payloads))

    async def _all(self, payloads: Iterable[object]) -> None:
        queue: asyncio.Queue[object] = asyncio.Queue(10_000)
        function = self.function

        async def handle(payload: object) -> None:
            function(payload)

        workers = [asyncio.create_task(work_off(queue, handle)) for _ in range(self.workers)]
        for payload in payloads:
            await queue.put(payload)
        await queue.join()
        for worker in workers:
            worker.cancel()

    def wait(self) -> None:
        pass


class _AsyncioTasks(_AsyncioQueue):
    """One task per job, a thousand at a time."""

    async def _all(self, payloads: Iterable[object]) -> None:
        function, rest = self.function, iter(payloads)

        async def handle(payload: object) -> None:
            function(payload)

        while some := list(itertools.islice(rest, 1000)):
            await asyncio.gather(*[asyncio.create_task(handle(payload)) for payload in some])


def start_huey(queue: Any, threads: int) -> Any:
    """Threads that work on a queue of huey's, and look for what is new as often as it lets them."""
    consumer = queue.create_consumer(
        workers=threads,
        worker_type="thread",
        initial_delay=0.001,
        backoff=1.0,
        max_delay=0.001,
        periodic=False,
        check_worker_health=False,
    )
    consumer.start()
    return consumer


class _Huey:
    def __init__(self, threads: int, function: Function) -> None:
        import logging

        import huey

        logging.getLogger("huey").setLevel(logging.ERROR)
        memory = huey.MemoryHuey("bench", results=False, immediate=False)
        # It looks for a task by the name of its function.
        self.task = memory.task()(function)
        self.consumer = start_huey(memory, threads)

    def run(self, payloads: Iterable[object]) -> None:
        task = self.task
        for payload in payloads:
            task(payload)

    def wait(self) -> None:
        pass


class _Forebay:
    """`Dispatcher.push`, one job at a time."""

    pass_job = False
    options: ClassVar[dict[str, Any]] = {}

    def __init__(self, threads: int, function: Function) -> None:
        from forebay import Dispatcher

        self.d = Dispatcher(concurrency=max(threads, 1), capacity=0, **self.options)
        self.task: Any = self._register(function)
        if threads:
            self.d.start()

    def _register(self, function: Function) -> object:
        return self.d.handler(kind="noop")(function)

    def run(self, payloads: Iterable[object]) -> None:
        push = self.d.push
        for payload in payloads:
            push("noop", payload)

    def wait(self) -> None:
        self.d.drain()


class _ForebayJob(_Forebay):
    """The function takes its job too."""

    def _register(self, function: Function) -> object:
        return self.d.handler(kind="noop", pass_job=True)(lambda job, payload: function(payload))


class _ForebayMany(_Forebay):
    """`push_many`, 64 at a time."""

    def run(self, payloads: Iterable[object]) -> None:
        rest, push_many = iter(payloads), self.d.push_many
        while some := [("noop", payload) for payload in itertools.islice(rest, 64)]:
            push_many(some)


class _ForebayResults(_Forebay):
    """Every result is asked for, once all jobs are pushed: so many must be kept."""

    options: ClassVar[dict[str, Any]] = {"keep_finished": 10_000_000}

    def run(self, payloads: Iterable[object]) -> None:
        push = self.d.push
        for handle in [push("noop", payload) for payload in payloads]:
            handle.result()


class _ForebayTask(_Forebay):
    """`task.push(a, b=1)`."""

    def run(self, payloads: Iterable[object]) -> None:
        push = self.task.push
        for payload in payloads:
            push(payload, b=1)


class _ForebayJson(_Forebay):
    """The payload is written as JSON at the push and read before the call, as for a file."""

    options: ClassVar[dict[str, Any]] = {"by_reference": False}


class _JsonLoop:
    """No queue at all: what the standard library's codec alone costs."""

    def __init__(self, threads: int, function: Function) -> None:
        self.function = function

    def run(self, payloads: Iterable[object]) -> None:
        function, dumps, loads = self.function, json.dumps, json.loads
        for payload in payloads:
            function(loads(dumps(payload)))

    def wait(self) -> None:
        pass


CONTENDERS = {
    "executor": Contender("`ThreadPoolExecutor.submit`", _Executor),
    "executor-results": Contender("`ThreadPoolExecutor`, every `.result()` read", _ExecutorResults),
    "executor-map": Contender("`ThreadPoolExecutor.map`", _ExecutorMap),
    "threadpool": Contender("`ThreadPool.apply_async`", _ThreadPool),
    "asyncio-queue": Contender("`asyncio.Queue` and workers", _AsyncioQueue),
    "asyncio-tasks": Contender("one asyncio task per job", _AsyncioTasks),
    "huey": Contender("huey, in memory", _Huey),
    "json-loop": Contender("`json.dumps` and `json.loads` in a loop", _JsonLoop),
    "forebay": Contender("Forebay `push`", _Forebay),
    "forebay-many": Contender("Forebay `push_many` (64)", _ForebayMany),
    "forebay-job": Contender("Forebay `push`, handler takes its job", _ForebayJob),
    "forebay-results": Contender("Forebay `push`, every `.result()` read", _ForebayResults),
    "forebay-task": Contender("Forebay `task.push(a, b=1)`", _ForebayTask),
    "forebay-executor": Contender("`forebay.Executor.submit`", _ForebayExecutor),
    "forebay-executor-results": Contender(
        "`forebay.Executor`, every `.result()` read", _ForebayExecutorResults
    ),
    "forebay-executor-retries": Contender("the same with 3 attempts and a bound", _ForebayExecutorRetries),
    "forebay-executor-map": Contender("`forebay.Executor.map`", _ForebayExecutorMap),
    "forebay-executor-chunks": Contender("the same, `chunksize=64`", _ForebayExecutorChunks),
    "forebay-json": Contender("Forebay `push`, payload as JSON", _ForebayJson),
}
