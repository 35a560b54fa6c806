"""What the Python tests share. Nothing sleeps to wait: every wait is on an event, with a deadline."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from forebay import Dispatcher

LIMIT = 60.0
"""The longest any wait may take, in seconds; a test that reaches it has failed."""


def descriptors() -> int:
    """How many files this process has open, but for what goes by itself."""
    for thread in threading.enumerate():
        # They have told what they came to, and hold the dispatcher a little longer.
        if thread.name in ("forebay-stop", "forebay-drain"):
            thread.join(LIMIT)
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


class Gate:
    """A handler's way to say that it runs, and to wait until it may go on."""

    def __init__(self) -> None:
        self._entered = threading.Semaphore(0)
        self._open = threading.Event()

    def enter(self) -> None:
        """Called in the handler: says that it runs, and waits."""
        self._entered.release()
        assert self._open.wait(LIMIT), "the gate was never opened"

    def reached(self) -> None:
        """Waits until one more handler is in."""
        assert self._entered.acquire(timeout=LIMIT), "no handler came"

    def open(self) -> None:
        """Lets everybody go on."""
        self._open.set()


@pytest.fixture
def gate() -> Iterator[Gate]:
    """A gate that is opened at the end, so that no handler outlives its test."""
    gate = Gate()
    yield gate
    gate.open()


@pytest.fixture
def opened() -> Iterator[Callable[..., Dispatcher]]:
    """Opens dispatchers that are stopped at the end."""
    made: list[Dispatcher] = []

    def opened(**options: Any) -> Dispatcher:
        options.setdefault("retry", "constant(1ms)")
        dispatcher = Dispatcher(**options)
        made.append(dispatcher)
        return dispatcher

    yield opened
    for dispatcher in made:
        dispatcher.stop(0)


@pytest.fixture
def d(opened: Callable[..., Dispatcher]) -> Dispatcher:
    """A dispatcher with four slots, not started."""
    return opened(concurrency=4)
