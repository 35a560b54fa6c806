"""What keeps jobs in a file: Forebay at its levels, and queues over SQLite that are durable.

Each is opened in a folder of its own in the repository, on its disk. The rivals are set to what makes a push
survive a power cut; the titles say how.
"""

from __future__ import annotations

import atexit
import itertools
import shutil
import tempfile
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from contenders import Contender, Function, start_huey


def scratch() -> str:
    """A folder on the disk of the repository; the temporary folder may be in memory."""
    place = Path(__file__).resolve().parents[2] / "build"
    place.mkdir(exist_ok=True)
    folder = tempfile.mkdtemp(prefix="bench-", dir=place)
    FOLDERS.append(folder)
    return folder


FOLDERS: list[str] = []


def sweep() -> None:
    """Removes what was measured in; a run that ends with `os._exit` must say so itself."""
    while FOLDERS:
        shutil.rmtree(FOLDERS.pop(), ignore_errors=True)


atexit.register(sweep)


class _PersistQueue:
    """persist-queue's acknowledged queue; every put, get and ack commits."""

    def __init__(self, threads: int, function: Function) -> None:
        import persistqueue

        self.queue = persistqueue.SQLiteAckQueue(scratch(), auto_commit=True, multithreading=True)
        for _ in range(threads):
            threading.Thread(target=self._work, args=(function,), daemon=True).start()

    def _work(self, function: Function) -> None:
        while True:
            item = self.queue.get()
            function(item)
            self.queue.ack(item)

    def run(self, payloads: Iterable[object]) -> None:
        for payload in payloads:
            self.queue.put(payload)

    def wait(self) -> None:
        pass


class _Huey:
    """huey over SQLite, with syncs."""

    def __init__(self, threads: int, function: Function) -> None:
        import logging

        import huey

        logging.getLogger("huey").setLevel(logging.ERROR)
        kept = huey.SqliteHuey(
            "bench", filename=f"{scratch()}/huey.db", fsync=True, results=False, immediate=False
        )
        self.task = kept.task()(function)
        self.consumer = start_huey(kept, threads)

    def run(self, payloads: Iterable[object]) -> None:
        for payload in payloads:
            self.task(payload)

    def wait(self) -> None:
        pass


class _LocalQueue:
    """localqueue in its durable mode."""

    def __init__(self, threads: int, function: Function) -> None:
        import localqueue

        self.queue: Any = localqueue.SimpleQueue(scratch(), durability=localqueue.DurabilityMode.DURABLE)
        for _ in range(threads):
            threading.Thread(target=self._work, args=(function,), daemon=True).start()

    def _work(self, function: Function) -> None:
        while True:
            job = self.queue.get()
            function(job.data)
            self.queue.ack(job)

    def run(self, payloads: Iterable[object]) -> None:
        for payload in payloads:
            self.queue.put(payload)

    def wait(self) -> None:
        pass


class _LocalQueueMany(_LocalQueue):
    """The same, 64 jobs per put; there is no get of many."""

    def run(self, payloads: Iterable[object]) -> None:
        rest = iter(payloads)
        while some := list(itertools.islice(rest, 64)):
            self.queue.put_many(some)


class _Forebay:
    """`push` at `disk`, from one thread, which waits for each."""

    level = "disk"

    def __init__(self, threads: int, function: Function) -> None:
        from forebay import Dispatcher

        self.d = Dispatcher(
            f"sqlite:{scratch()}/jobs.db", concurrency=threads, capacity=0, durability=self.level
        )
        self.d.handler(kind="noop")(function)
        self.d.start()

    def run(self, payloads: Iterable[object]) -> None:
        for payload in payloads:
            self.d.push("noop", payload)

    def wait(self) -> None:
        self.d.drain()
        self.d.flush()


class _ForebayOs(_Forebay):
    level = "os"


class _Forebay64(_Forebay):
    """64 threads push, and each waits for its own."""

    def run(self, payloads: Iterable[object]) -> None:
        rest, lock = iter(payloads), threading.Lock()

        def push() -> None:
            while True:
                with lock:
                    some = list(itertools.islice(rest, 16))
                if not some:
                    return
                for payload in some:
                    self.d.push("noop", payload)

        pushers = [threading.Thread(target=push) for _ in range(64)]
        for pusher in pushers:
            pusher.start()
        for pusher in pushers:
            pusher.join()


class _ForebayMany(_Forebay):
    """`push_many`, which waits for all of them at once."""

    size = 64

    def run(self, payloads: Iterable[object]) -> None:
        rest = iter(payloads)
        while some := [("noop", payload) for payload in itertools.islice(rest, self.size)]:
            self.d.push_many(some)


class _ForebayMany1000(_ForebayMany):
    size = 1000


DURABLE = {
    "persist-queue": Contender("persist-queue `SQLiteAckQueue`, `synchronous=FULL`", _PersistQueue),
    "huey-sqlite": Contender("huey `SqliteHuey`, `fsync=True`", _Huey),
    "localqueue": Contender("localqueue, `DURABLE`", _LocalQueue),
    "localqueue-many": Contender("localqueue, `DURABLE`, `put_many` of 64", _LocalQueueMany),
    "sqlite": Contender("Forebay `push`, `disk`", _Forebay),
    "sqlite-os": Contender("Forebay `push`, `os`", _ForebayOs),
    "sqlite-64": Contender("Forebay `push`, `disk`, 64 threads", _Forebay64),
    "sqlite-many": Contender("Forebay `push_many` of 64, `disk`", _ForebayMany),
    "sqlite-many-1000": Contender("Forebay `push_many` of 1000, `disk`", _ForebayMany1000),
}
"""Contenders over a file, each with its title."""
