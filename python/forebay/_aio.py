"""Pushes that an event loop awaits."""

from __future__ import annotations

import asyncio
from typing import Any
from weakref import WeakKeyDictionary, ref

from forebay._forebay import Core, Handle, Outbox, Submission


class _Awaited(dict[int, "asyncio.Future[Handle[Any]]"]):
    """What a loop waits for, by number. Only the loop holds it, which each future holds."""


class _Post:
    """The pushes of one loop to one dispatcher."""

    def __init__(self, dispatcher: Core) -> None:
        self._outbox: Outbox = dispatcher.outbox()
        self._awaited = ref(_Awaited())

    def send(self, submission: Submission, loop: asyncio.AbstractEventLoop) -> asyncio.Future[Handle[Any]]:
        number = submission.send(self._outbox)
        awaited = self._awaited()
        if awaited is None:
            # The loop listens only while it waits for something.
            awaited = _Awaited()
            self._awaited = ref(awaited)
            loop.add_reader(self._outbox.fileno(), self._deliver, loop, awaited)
        future = awaited[number] = loop.create_future()
        return future

    def _deliver(self, loop: asyncio.AbstractEventLoop, awaited: _Awaited) -> None:
        for number, handle, error in self._outbox.drain():
            future = awaited.pop(number, None)
            if future is None or future.done():
                continue  # Nobody waits any more; the job was pushed all the same.
            if handle is not None:
                future.set_result(handle)
            elif error is not None:
                future.set_exception(error)
        if not awaited:
            # From now on nobody holds it.
            loop.remove_reader(self._outbox.fileno())
            self._awaited = ref(_Awaited())


_posts: WeakKeyDictionary[asyncio.AbstractEventLoop, WeakKeyDictionary[Core, _Post]] = WeakKeyDictionary()


def push(dispatcher: Core, submission: Submission) -> asyncio.Future[Handle[Any]]:
    """Pushes a job that has to wait, without making the running loop wait."""
    loop = asyncio.get_running_loop()
    posts = _posts.setdefault(loop, WeakKeyDictionary())
    if dispatcher not in posts:
        posts[dispatcher] = _Post(dispatcher)
    try:
        future = posts[dispatcher].send(submission, loop)
    except BaseException as error:
        submission.tell(None, error)
        raise
    if submission.heard:
        future.add_done_callback(lambda future: _tell(submission, future))
    return future


def _tell(submission: Submission, future: asyncio.Future[Handle[Any]]) -> None:
    """Tells the hooks what became of a push. Of one that nobody waits for any more nothing is known."""
    if future.cancelled():
        submission.tell(None, asyncio.CancelledError())
    elif (error := future.exception()) is not None:
        submission.tell(None, error)
    else:
        submission.tell(future.result(), None)
