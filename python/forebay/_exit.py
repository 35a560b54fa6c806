"""The end of the interpreter: dispatchers that are still open are stopped.

Worker threads are not daemons, because a daemon that comes back from native code into an interpreter that is
being taken apart brings the process down. Python waits for such threads, so something must stop them first:
`threading._register_atexit` calls us before it waits, where there is one, and `atexit` otherwise.

A handler that outlives the grace cannot be ended by anybody. The process says which threads hang, then
flushes its output and leaves without Python's own clean-up, which would wait for ever. A thread that runs no
handler does not hang: it is slow, on a machine that has much to do, and is waited for.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from forebay import _forebay

if TYPE_CHECKING:
    from typing import NoReturn

    from forebay._forebay import Pulse
    from forebay.dispatcher import Dispatcher

WORKER = "forebay-worker-"
"""How the names of worker threads begin."""
_JOIN = 0.5
"""How long to wait for threads whose handlers have outlived the grace, in seconds."""
_LAST = 2.0
"""The same before the process leaves without them: a handler may be slow to end."""
_SLOW = 30.0
"""How long to wait for threads that run no handler: they are about to end, unless Forebay has a defect."""

_open: weakref.WeakSet[Dispatcher] = weakref.WeakSet()
_pulses: weakref.WeakKeyDictionary[threading.Thread, Pulse] = weakref.WeakKeyDictionary()
_process = 0


def nothing() -> None:
    """Does nothing, which is time enough for an exception that waits for its thread to be raised."""


def watch(dispatcher: Dispatcher) -> None:
    """Stops the dispatcher before the interpreter ends."""
    global _process
    if _process != os.getpid():
        _process = os.getpid()
        _register()
    _open.add(dispatcher)


def worker(pulse: Pulse, name: str, target: Callable[..., object], *args: object) -> threading.Thread:
    """A thread that runs handlers, of which `pulse` tells. Somebody must start it."""
    thread = threading.Thread(target=target, args=args, name=f"{WORKER}{name}", daemon=False)
    _pulses[thread] = pulse
    return thread


def join(threads: Iterable[threading.Thread], limit: float | None = None) -> list[str]:
    """Waits for worker threads, which end at once unless their handler hangs. Names those that do."""
    deadline = time.monotonic() + (_JOIN if limit is None else limit)
    here = threading.current_thread()
    alive = [thread for thread in threads if thread.is_alive() and thread is not here]
    for thread in alive:
        thread.join(max(0.0, deadline - time.monotonic()))
    return [thread.name for thread in alive if thread.is_alive()]


def join_slow(threads: Iterable[threading.Thread]) -> list[str]:
    """Waits for threads that have not ended yet unless a handler may keep them. Names those that are left."""
    alive = [thread for thread in threads if thread.is_alive()]
    return join(alive, 0 if any(map(_runs_handlers, alive)) else _SLOW)


def hung() -> list[str]:
    """Waits for all worker threads, also for those of dispatchers that are gone. Names those that hang."""
    workers = [thread for thread in threading.enumerate() if thread.name.startswith(WORKER)]
    join(workers, _LAST)
    return join_slow(workers)


def _runs_handlers(thread: threading.Thread) -> bool:
    pulse = _pulses.get(thread)
    return pulse is None or pulse.beats()


def _register() -> None:
    try:
        threading._register_atexit(_stop_all)  # type: ignore[attr-defined]
    except (AttributeError, RuntimeError):
        atexit.register(_stop_all)


def _stop_all() -> None:
    if _process != os.getpid():
        return
    dispatchers, asked = list(_open), False
    # Ctrl-C may come at any place in here, also between two of them: none is left out.
    while dispatchers:
        try:
            try:
                if not asked:
                    asked = True
                    for dispatcher in dispatchers:
                        dispatcher.request_stop()
                while dispatchers:
                    dispatchers[0].stop()
                    del dispatchers[0]
            except KeyboardInterrupt:
                # It cuts the grace short: what runs is handed back, so that handlers that ask hear of it.
                for dispatcher in dispatchers[:1]:
                    dispatcher.stop(0)
                raise
        except BaseException:
            # This, or a dump that cannot be written: it is told, and the others are stopped all the same.
            sys.excepthook(*sys.exc_info())
            del dispatchers[:1]
    _stop_forgotten()
    if names := hung():
        leave(names)


def _stop_forgotten() -> None:
    """Stops dispatchers that nobody could ask to: their threads are there, and no weak reference to them is.

    The collector has cleared those, and then found that something lives in what it was to take: a finalizer
    had made a reference to it, or a thread had begun a handler.
    """
    for pulse in {pulse for thread in threading.enumerate() if (pulse := _pulses.get(thread))}:
        try:
            pulse.stop()
        except BaseException:
            sys.excepthook(*sys.exc_info())


def leave(names: list[str], code: int | None = None) -> NoReturn:
    """Ends the process at once: with this code, or that of an error if Python is ending because of one."""
    # Nobody is left to hear of what goes wrong now; and a process may have been begun without these streams.
    with suppress(Exception):
        print(f"forebay: handlers did not end within the grace: {', '.join(names)}", file=sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    if code is None:
        code = 1 if getattr(sys, "last_value", None) is not None else 0
    os._exit(code)


def _in_child() -> None:
    _open.clear()
    _forebay.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
