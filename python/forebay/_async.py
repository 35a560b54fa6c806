"""Async handlers, and the life of a dispatcher on an event loop."""

from __future__ import annotations

import asyncio
import functools
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from forebay.errors import ClosedError, WouldDeadlock

if TYPE_CHECKING:
    from weakref import ref

    from forebay._forebay import Carrier, Station
    from forebay._types import Delay
    from forebay.dispatcher import Dispatcher, StopReport

T = TypeVar("T")

_END = 0.5
"""How long coroutines have to end once their jobs have been handed back, in seconds."""


class Crew:
    """The tasks of one loop that run the jobs of one dispatcher.

    Made on the thread of the loop. It holds no reference to the dispatcher: dropping the last one stops this.
    """

    def __init__(self, dispatcher: Dispatcher, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.finished: asyncio.Future[None] = loop.create_future()
        """Done when the dispatcher has stopped and nothing runs here any more."""
        self._station: Station = dispatcher.station(self._spawn, loop.create_future, self._later, self._end)
        self._descriptor: int | None = self._station.fileno()
        loop.add_reader(self._descriptor, self._station.wake)

    @property
    def carriers(self) -> int:
        """How many tasks there are."""
        return self._station.carriers

    def is_here(self) -> bool:
        """Whether the loop runs, and on this thread."""
        return asyncio._get_running_loop() is self._loop

    def refuse(self, instead: str) -> None:
        """Raises WouldDeadlock where waiting would hold the loop up."""
        if self.is_here():
            raise WouldDeadlock(
                f"this call waits for handlers that run on this event loop: await {instead}()"
            )

    def expect_stop(self, instead: str) -> None:
        """The dispatcher is about to be stopped, by a call that waits."""
        self.refuse(instead)
        if self._loop.is_closed():
            # What waits there will wait for ever.
            self.close()

    def close(self) -> None:
        """Lets everything go; jobs that run here go back to the queue."""
        self._look_away()
        self._station.abandon()

    async def end(self) -> None:
        """Waits a moment for what still runs here after a stop."""
        await asyncio.wait({self.finished}, timeout=_END)
        if self.finished.done():
            self.close()
        else:
            # Coroutines that go on though they were cancelled are the loop's from now on, as any others.
            self._look_away()

    def _look_away(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None and not self._loop.is_closed():
            self._loop.remove_reader(descriptor)

    def _spawn(self, carrier: Carrier) -> asyncio.Task[None]:
        # Not by the factory of the loop: what tasks are for others is not what these are, and an eager one
        # would run each in the middle of the one before.
        task: asyncio.Task[None] = asyncio.Task(carrier, loop=self._loop, name="forebay-carrier")
        # With a loop that is given up its tasks are, and that is no defect of the program's.
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        task.add_done_callback(_seen)
        return task

    def _later(self, seconds: float) -> None:
        self._loop.call_later(seconds, self._station.wake)

    def _end(self) -> None:
        self._look_away()
        if not self.finished.done():
            self.finished.set_result(None)


def _seen(task: asyncio.Task[Any]) -> None:
    """What ended a task has been raised out of its loop."""
    if not task.cancelled():
        task.exception()


# ---- a loop of our own ------------------------------------------------------------------------------


def work(owner: ref[Dispatcher]) -> None:
    """The body of a thread with a loop of its own: until the dispatcher stops and what runs has ended."""
    try:
        asyncio.run(_serve(owner))
    except SystemExit:
        # A handler asked this thread to end. Without it the dispatcher could do nothing but look alive.
        dispatcher = owner()
        if dispatcher is not None:
            dispatcher.request_stop()


async def _serve(owner: ref[Dispatcher]) -> None:
    dispatcher = owner()
    if dispatcher is None:
        return
    try:
        crew = dispatcher._crew = Crew(dispatcher, asyncio.get_running_loop())
    except ClosedError:
        return
    finally:
        del dispatcher
    try:
        await crew.finished
    finally:
        crew.close()


# ---- a loop of the caller's -------------------------------------------------------------------------


def start(dispatcher: Dispatcher) -> None:
    """Starts the dispatcher on the running loop, unless it has been started."""
    dispatcher.check_open()
    with dispatcher._starting:
        if not dispatcher._wanted:
            dispatcher._wanted = dispatcher.concurrency
            dispatcher._crew = Crew(dispatcher, asyncio.get_running_loop())
    dispatcher._staff()


async def run(dispatcher: Dispatcher) -> None:
    """Starts the dispatcher, and stops it when somebody asks for that."""
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    hurry: asyncio.Future[StopReport] | None = None

    def tell() -> None:
        _soon(loop, asked.set)

    def heard(number: int) -> None:
        nonlocal hurry
        if not dispatcher.stopping:
            dispatcher.request_stop()
        elif number == signal.SIGINT and hurry is None:
            hurry = _on_a_thread(lambda: dispatcher.stop(0), "forebay-stop")

    with _signals(loop, heard):
        start(dispatcher)
        dispatcher._on_stop.append(tell)
        try:
            if not dispatcher.stopping:
                await _first(asked.wait(), dispatcher._crew)
        finally:
            dispatcher._on_stop.remove(tell)
            await stop(dispatcher, None)
    if hurry is not None:
        await hurry
        raise KeyboardInterrupt


async def _first(asked: Any, crew: Crew | None) -> None:
    """Waits until somebody has asked for a stop, here or elsewhere."""
    waits = {asyncio.ensure_future(asked)}
    others = set() if crew is None else {crew.finished}
    try:
        await asyncio.wait(waits | others, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


async def stop(dispatcher: Dispatcher, grace: Delay | None) -> StopReport:
    """Stops the dispatcher; a thread does the waiting."""
    dispatcher.wait_idle(0)  # Refused in a handler.
    dispatcher.request_stop()
    if grace is None:
        grace = dispatcher.settings["grace"]

    def body() -> StopReport:
        dispatcher.wait_idle(grace)
        return dispatcher.stop(0)

    report = await _on_a_thread(body, "forebay-stop")
    crew = dispatcher._crew
    if crew is not None and crew.is_here():
        await crew.end()
    return report


async def drain(dispatcher: Dispatcher, timeout: Delay | None) -> None:
    """Waits until no job is queued or running; a thread does the waiting."""
    dispatcher.wait_idle(0)  # Refused in a handler.
    await _on_a_thread(lambda: dispatcher.drain(timeout), "forebay-drain")


def _on_a_thread(body: Callable[[], T], name: str) -> asyncio.Future[T]:
    """What `body` returns, or raises, on a thread that ends with it."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return  # Nobody waits for it any more.
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def work() -> None:
        result, error = None, None
        try:
            result = body()
        except BaseException as raised:
            error = raised
        _soon(loop, settle, result, error)

    threading.Thread(target=work, name=name, daemon=False).start()
    return future


def _soon(loop: asyncio.AbstractEventLoop, call: Callable[..., object], *args: Any) -> None:
    """Has the loop call this, from any thread; nothing if it is closed."""
    try:
        loop.call_soon_threadsafe(call, *args)
    except RuntimeError:
        if not loop.is_closed():
            raise


# ---- signals ----------------------------------------------------------------------------------------


@contextmanager
def _signals(loop: asyncio.AbstractEventLoop, heard: Callable[[int], None]) -> Iterator[None]:
    """SIGINT and SIGTERM call `heard` on the loop meanwhile, where they are ours to take."""
    taken = []
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            former = signal.getsignal(number)
            if _may_take(number, former):
                loop.add_signal_handler(number, heard, number)
                taken.append((number, former))
    try:
        yield
    finally:
        for number, former in taken:
            loop.remove_signal_handler(number)
            signal.signal(number, former)


def _may_take(number: signal.Signals, former: object) -> bool:
    """Whether a signal does what it does without a program's own handler; asyncio's cancels the main task."""
    if number == signal.SIGTERM:
        return former is signal.SIG_DFL
    if isinstance(former, functools.partial):
        former = getattr(former.func, "__func__", None)
    return former in (signal.default_int_handler, asyncio.Runner._on_sigint)  # type: ignore[attr-defined]
