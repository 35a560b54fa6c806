"""The ends of jobs, for event loops.

A loop listens to one descriptor per dispatcher, and wakes once for all jobs that have ended meanwhile. Only
the loop holds what listens for it, so a loop that is closed in the middle leaves nothing behind.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar
from weakref import WeakKeyDictionary, WeakValueDictionary

from forebay._forebay import Ends, Handle, awaiting, home, outcome, seconds
from forebay.errors import ClosedError, ForebayError, WaitTimeout

if TYPE_CHECKING:
    from forebay._types import Delay

R = TypeVar("R")

Ended: TypeAlias = tuple[R, BaseException | None]
"""What a job returned, and what waiting for it raises."""
Hear: TypeAlias = Callable[[Any, BaseException | None], object]
"""What is told of an end: what the job returned, or what waiting for it raises."""


class Ear:
    """Where one loop hears of the ends of the jobs of one dispatcher."""

    def __init__(self, loop: asyncio.AbstractEventLoop, handle: Handle[Any]) -> None:
        """From now on the loop holds it."""
        self._loop = loop
        self._home = home(handle)
        self._ends = Ends(handle)
        self._hearing: dict[int, Hear] = {}
        loop.add_reader(self._ends.fileno(), self._listen)

    def listen_for(self, handle: Handle[Any], hear: Hear) -> int:
        """Has the end of a job told, and returns the number to take that back by."""
        number = self._ends.add(handle)
        self._hearing[number] = hear
        return number

    def forget(self, number: int) -> None:
        """Nobody wants to hear of this one any more."""
        if self._hearing.pop(number, None) is not None:
            self._ends.remove(number)

    def _listen(self) -> None:
        try:
            ended = self._ends.outcomes()
        except ClosedError as closed:
            self._close(closed)
            return
        for number, value, error in ended:
            hear = self._hearing.pop(number, None)
            if hear is not None:
                hear(value, error)

    def _close(self, error: ClosedError) -> None:
        """The dispatcher has stopped: there is nothing more to hear, but for those who still listen."""
        self._loop.remove_reader(self._ends.fileno())
        _ears[self._loop].pop(self._home, None)
        hopeless, self._hearing = self._hearing, {}
        for hear in hopeless.values():
            hear(None, type(error)(*error.args))


_ears: WeakKeyDictionary[asyncio.AbstractEventLoop, WeakValueDictionary[int, Ear]] = WeakKeyDictionary()


def _ear(loop: asyncio.AbstractEventLoop, handle: Handle[Any]) -> Ear:
    ears = _ears.setdefault(loop, WeakValueDictionary())
    ear = ears.get(home(handle))
    if ear is None:
        ear = ears[home(handle)] = Ear(loop, handle)
    return ear


def awaited(handle: Handle[R]) -> Generator[Any, None, R]:
    """The body of `await handle`."""
    ended = outcome(handle)
    if ended is None:
        ended = yield from _end_of(handle)
    value, error = ended
    if error is not None:
        raise error
    result: R = value
    return result


def _end_of(handle: Handle[R]) -> Generator[Any, None, Ended[R]]:
    loop = asyncio.get_running_loop()
    ear, end = _ear(loop, handle), loop.create_future()
    waits = awaiting(handle)
    try:
        number = ear.listen_for(handle, partial(_resolve, end))
        try:
            ended: Ended[R] = yield from end
            return ended
        finally:
            ear.forget(number)
    finally:
        if waits is not None:
            waits.end()


@contextmanager
def _suspended_for(handle: Handle[Any]) -> Iterator[None]:
    """If this is a handler, it waits for that job for the time of the block.

    Of several that it waits for, one stands for all.

    Raises:
        WouldDeadlock: Every slot would be held by a handler that waits, or the job is the handler's own.
    """
    waits = awaiting(handle)
    if waits is None:
        yield
        return
    try:
        yield
    finally:
        waits.end()


def _resolve(
    end: asyncio.Future[tuple[Any, BaseException | None]], value: Any, error: BaseException | None
) -> None:
    if not end.done():
        end.set_result((value, error))


async def result(handle: Handle[R], timeout: Delay | None = None) -> R:
    """The body of `Handle.aresult`."""
    limit = None if timeout is None else seconds("timeout", timeout)
    try:
        async with asyncio.timeout(limit) as patience:
            return await handle
    except TimeoutError:
        if not patience.expired():
            raise
        text = f"job {handle.id} is still {handle.status} after {limit} seconds; wait longer, or cancel it"
        raise WaitTimeout(text) from None


_NOT_YET = object()
"""In the place of what a job that has not ended comes to."""


class _Gathering:
    """What becomes of several jobs, in their order."""

    def __init__(self, count: int, keep_errors: bool) -> None:
        self.values: list[Any] = [_NOT_YET] * count
        self.end: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
        self._left = count
        self._keep_errors = keep_errors

    def put(self, place: int, value: Any, error: BaseException | None) -> None:
        """This one has ended."""
        if self.end.done():
            return
        if error is not None and not self._keep_errors:
            self.end.set_result(error)
            return
        self.values[place] = value if error is None else error
        self._left -= 1
        if not self._left:
            self.end.set_result(None)

    async def ended(self, handles: tuple[Handle[Any], ...]) -> BaseException | None:
        """Waits until all have, and returns what is to be raised."""
        for handle, value in zip(handles, self.values, strict=True):
            if not self.end.done() and value is _NOT_YET:
                with _suspended_for(handle):
                    return await self.end
        return await self.end


async def gather(handles: tuple[Handle[Any], ...], keep_errors: bool) -> tuple[Any, ...]:
    """The body of `forebay.gather`."""
    if not handles:
        return ()
    gathering, listening = _Gathering(len(handles), keep_errors), Listening()
    try:
        for place, handle in enumerate(handles):
            listening.add(handle, partial(gathering.put, place))
        error = await gathering.ended(handles)
    finally:
        listening.stop()
    if error is not None:
        raise error
    return tuple(gathering.values)


class Listening:
    """Whom the running loop listens for, on behalf of one who waits for several."""

    def __init__(self) -> None:
        """Nobody so far."""
        self._loop = asyncio.get_running_loop()
        self._numbers: list[tuple[Ear, int]] = []

    def add(self, handle: Handle[Any], hear: Hear) -> None:
        """Has the end of a job told: at once, if it has ended or cannot be waited for."""
        try:
            ended = outcome(handle)
            if ended is None:
                ear = _ear(self._loop, handle)
                self._numbers.append((ear, ear.listen_for(handle, hear)))
                return
        except ForebayError as error:
            ended = (None, error)
        hear(*ended)

    def stop(self) -> None:
        """Nothing more is told."""
        for ear, number in self._numbers:
            ear.forget(number)
        self._numbers.clear()


class Arrivals:
    """Jobs in the order in which they end."""

    def __init__(self, handles: Iterable[Handle[R]]) -> None:
        """Of the running loop."""
        self._listening = Listening()
        self._come: deque[Handle[Any]] = deque()
        self._woken: asyncio.Future[None] | None = None
        self._hopeless: BaseException | None = None
        self._open = dict.fromkeys(handles)
        for handle in list(self._open):
            self._listening.add(handle, partial(self._arrive, handle))

    def _arrive(self, handle: Handle[Any], value: object, error: BaseException | None) -> None:
        if isinstance(error, ClosedError):
            self._hopeless = error
        else:
            self._open.pop(handle, None)
            self._come.append(handle)
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    async def next(self, left: float | None) -> Handle[Any] | None:
        """The next one, or None if there is none after so many seconds."""
        try:
            async with asyncio.timeout(left) as patience:
                while not self._come:
                    if self._hopeless is not None:
                        raise self._hopeless
                    self._woken = asyncio.get_running_loop().create_future()
                    with _suspended_for(next(iter(self._open))):
                        await self._woken
        except TimeoutError:
            if not patience.expired():
                raise
            return None
        return self._come.popleft()

    def stop(self) -> None:
        """Nothing more arrives."""
        self._listening.stop()
