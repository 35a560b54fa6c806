"""Waiting for many jobs: `wait`, `as_completed`, `gather`."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypeVar, overload

from forebay._forebay import Ends, Handle, home, seconds
from forebay.errors import ClosedError, InvalidError, NotFoundError, WaitTimeout

if TYPE_CHECKING:
    from forebay._loop import Arrivals
    from forebay._types import Delay, ReturnWhen

R = TypeVar("R")
R1 = TypeVar("R1")
R2 = TypeVar("R2")
R3 = TypeVar("R3")
R4 = TypeVar("R4")

_SLICE = 0.05
"""How long the main thread is deaf to signals, in seconds."""
_RETURN_WHEN = ("ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION")


class Waited(NamedTuple, Generic[R]):
    """What a wait for many found."""

    done: set[Handle[R]]
    """Those that have ended: `result()` of them does not wait."""
    not_done: set[Handle[R]]
    """The others."""


def too_late(left: int) -> WaitTimeout:
    """Of a wait after which so many jobs have not ended."""
    jobs = "1 job has" if left == 1 else f"{left} jobs have"
    return WaitTimeout(f"{jobs} not ended after the time to wait; wait longer, or cancel what is left")


class _Watched(Generic[R]):
    """The jobs that one thread waits for, of any number of dispatchers."""

    def __init__(self, handles: Iterable[Handle[R]], timeout: Delay | None) -> None:
        limit = None if timeout is None else seconds("timeout", timeout)
        self._deadline = None if limit is None else time.monotonic() + limit
        self._ends: dict[int, Ends] = {}
        self._open: dict[int, dict[int, Handle[R]]] = {}
        self._ended: list[tuple[Handle[R], bool | None]] = []
        self._hopeless: ClosedError | None = None
        for handle in handles:
            self._add(handle)

    def _add(self, handle: Handle[R]) -> None:
        place = home(handle)
        if place not in self._ends:
            self._ends[place], self._open[place] = Ends(handle), {}
        try:
            self._open[place][self._ends[place].add(handle)] = handle
        except NotFoundError:
            # It has ended so long ago that it is forgotten.
            self._ended.append((handle, None))
        except ClosedError as error:
            self._hopeless = error

    def take(self) -> list[tuple[Handle[R], bool | None]]:
        """Waits for the first, and returns those that have ended, each with whether it succeeded.

        Raises:
            WaitTimeout: None has in time.
            ClosedError: None will.
        """
        while not self._ended:
            if not any(self._open.values()):
                raise self._hopeless or ClosedError("there is nothing to wait for")
            left = self._left()
            self._look(left if len(self._ends) == 1 else 0)
            if self._ended:
                break
            if left == 0:
                raise too_late(sum(map(len, self._open.values())))
            if len(self._ends) > 1:
                self._sleep(left)
        ended, self._ended = self._ended, []
        return ended

    def _left(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def _look(self, timeout: float | None) -> None:
        for place, ends in list(self._ends.items()):
            try:
                found = ends.wait(timeout)
            except ClosedError as error:
                self._hopeless = error
                del self._ends[place], self._open[place]
                continue
            handles = self._open[place]
            self._ended.extend((handles.pop(number), succeeded) for number, succeeded in found)

    def _sleep(self, timeout: float | None) -> None:
        """Waits until there may be something of any dispatcher; in the main thread not for long at once."""
        import select

        poll = select.poll()
        for ends in self._ends.values():
            poll.register(ends.fileno(), select.POLLIN)
        if threading.current_thread() is threading.main_thread():
            # A signal that comes just before the call does not end it.
            timeout = _SLICE if timeout is None else min(timeout, _SLICE)
        poll.poll(None if timeout is None else timeout * 1000 + 1)


def wait(
    handles: Iterable[Handle[R]], timeout: Delay | None = None, return_when: ReturnWhen = "ALL_COMPLETED"
) -> Waited[R]:
    """Waits for several jobs, of one dispatcher or of many.

    Any thread; Ctrl-C ends the wait in the main one. An event loop has `gather` and `async for` over
    `as_completed`.

    Args:
        handles: What the pushes returned; several of one job count once.
        timeout: The longest wait, in seconds, as a timedelta, or as a text such as "5s"; without end if left
            out.
        return_when: "ALL_COMPLETED"; "FIRST_COMPLETED": when one has ended; or "FIRST_EXCEPTION": when one
            has ended without success, or all have ended.

    Returns:
        The handles of the jobs that have ended by then, and the others. A job that has ended and is forgotten
        is among the former.

    Raises:
        ClosedError: A dispatcher has stopped, and what would have to be waited for will not end.
        WouldDeadlock: A handler waits without a timeout for jobs of its own dispatcher, which may need its
            slot.
    """
    if return_when not in _RETURN_WHEN:
        raise InvalidError(f"return_when is {return_when!r}; it must be one of {', '.join(_RETURN_WHEN)}")
    not_done = set(handles)
    done: set[Handle[R]] = set()
    watched = _Watched(not_done, timeout)
    over = False
    while not_done and not over:
        try:
            ended = watched.take()
        except WaitTimeout:
            break
        for handle, succeeded in ended:
            done.add(handle)
            over = over or return_when == "FIRST_COMPLETED"
            over = over or (return_when == "FIRST_EXCEPTION" and succeeded is False)
        not_done -= done
    return Waited(done, not_done)


class AsCompleted(Generic[R]):
    """The jobs of `as_completed`: for a `for` loop, or for an `async for` loop. One of them, once."""

    def __init__(self, handles: Iterable[Handle[R]], timeout: Delay | None) -> None:
        """From now on the timeout runs."""
        limit = None if timeout is None else seconds("timeout", timeout)
        self._deadline = None if limit is None else time.monotonic() + limit
        self._left = dict.fromkeys(handles)
        for handle in self._left:
            home(handle)
        self._ready: deque[Handle[R]] = deque()
        self._watched: _Watched[R] | None = None
        self._arrivals: Arrivals | None = None

    def __iter__(self) -> Iterator[Handle[R]]:
        """Itself."""
        return self

    def __next__(self) -> Handle[R]:
        """Waits for the next one."""
        if not self._ready:
            if not self._left:
                raise StopIteration
            if self._watched is None:
                self._watched = _Watched(self._left, self._time())
            self._ready.extend(handle for handle, _ in self._watched.take())
        return self._give(self._ready.popleft())

    def __aiter__(self) -> AsyncIterator[Handle[R]]:
        """Itself."""
        return self

    async def __anext__(self) -> Handle[R]:
        """Waits for the next one without keeping the loop waiting."""
        from forebay._loop import Arrivals

        if not self._left:
            raise StopAsyncIteration
        if self._arrivals is None:
            self._arrivals = Arrivals(self._left)
        handle = await self._arrivals.next(self._time())
        if handle is None:
            raise too_late(len(self._left))
        return self._give(handle)

    def _give(self, handle: Handle[R]) -> Handle[R]:
        del self._left[handle]
        return handle

    def _time(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def __del__(self) -> None:
        """A loop listens no longer for what nobody asks for."""
        if (arrivals := getattr(self, "_arrivals", None)) is not None:
            arrivals.stop()


def as_completed(handles: Iterable[Handle[R]], timeout: Delay | None = None) -> AsCompleted[R]:
    """The handles of several jobs, in the order in which they end.

        for handle in forebay.as_completed(handles, timeout=60):
            print(handle.result())

        async for handle in forebay.as_completed(handles):
            print(await handle)

    The jobs may be of several dispatchers, and `result()` of what comes does not wait. Any thread; Ctrl-C
    ends the wait in the main one.

    Args:
        handles: What the pushes returned; several of one job count once.
        timeout: How long all of it may take from now, in seconds, as a timedelta, or as a text such as "5s";
            without end if left out.

    Raises:
        WaitTimeout: By the loop, when some have not ended in time.
        ClosedError: By the loop, when a dispatcher has stopped and those that are left will not end.
    """
    return AsCompleted(handles, timeout)


@overload
async def gather(h1: Handle[R1], /, *, return_exceptions: Literal[False] = False) -> tuple[R1]: ...
@overload
async def gather(
    h1: Handle[R1], h2: Handle[R2], /, *, return_exceptions: Literal[False] = False
) -> tuple[R1, R2]: ...
@overload
async def gather(
    h1: Handle[R1], h2: Handle[R2], h3: Handle[R3], /, *, return_exceptions: Literal[False] = False
) -> tuple[R1, R2, R3]: ...
@overload
async def gather(
    h1: Handle[R1],
    h2: Handle[R2],
    h3: Handle[R3],
    h4: Handle[R4],
    /,
    *,
    return_exceptions: Literal[False] = False,
) -> tuple[R1, R2, R3, R4]: ...
@overload
async def gather(*handles: Handle[R], return_exceptions: Literal[False] = False) -> tuple[R, ...]: ...
@overload
async def gather(*handles: Handle[R], return_exceptions: bool) -> tuple[R | BaseException, ...]: ...
async def gather(*handles: Handle[Any], return_exceptions: bool = False) -> tuple[Any, ...]:
    """Waits for several jobs on an event loop, and returns their results in the order of the handles.

    The jobs may be of several dispatchers. Whoever is cancelled while he waits leaves the jobs as they are.

    Args:
        *handles: What the pushes returned.
        return_exceptions: Whether what a job ended with takes its place among the results; otherwise the
            first that has ended without success is raised at once, and the others go on.

    Raises:
        JobFailed: A job failed; as with `Handle.result`, JobCancelled and Shed are such.
        ClosedError: A dispatcher has stopped, and a job of it will not end.
    """
    from forebay import _loop

    return await _loop.gather(handles, return_exceptions)
