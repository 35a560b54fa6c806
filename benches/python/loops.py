"""What runs coroutines as jobs: Forebay's async handlers, and what asyncio alone offers.

Three ways of pushing, the same for all: from the loop without waiting, from the loop with an awaited push and
room for ten thousand jobs, and from another thread. Each with handlers that never wait, and with handlers
that wait once, for `asyncio.sleep(0)`; and each on asyncio's own loop and on uvloop's.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any

from contenders import Contender, Function, Handle, work_off

ROOM = 10_000
"""How many jobs wait before an awaited push does."""


@dataclass(frozen=True)
class Way:
    """How jobs are pushed, and what their handlers do."""

    awaited: bool = False
    from_thread: bool = False
    waits: bool = False
    uvloop: bool = False

    def handler(self, function: Function) -> Handle:
        """The coroutine that calls the function of the benchmark."""

        async def quick(payload: object) -> None:
            function(payload)

        async def waits(payload: object) -> None:
            await asyncio.sleep(0)
            function(payload)

        return waits if self.waits else quick

    def run(self, main: Coroutine[Any, Any, None]) -> None:
        """Runs a main coroutine on the loop."""
        factory = None
        if self.uvloop:
            import uvloop

            factory = uvloop.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(main)


class _OnALoop:
    """What is pushed runs to its end in `run`."""

    def __init__(self, way: Way, workers: int, function: Function) -> None:
        self.way, self.workers, self.handle = way, workers, way.handler(function)

    def run(self, payloads: Iterable[object]) -> None:
        self.way.run(self.main(payloads))

    async def main(self, payloads: Iterable[object]) -> None:
        raise NotImplementedError

    def wait(self) -> None:
        pass

    async def push_all(self, payloads: Iterable[object], push: Callable[[Any], object]) -> None:
        """Pushes without waiting, from here or from another thread."""
        if not self.way.from_thread:
            for payload in payloads:
                push(payload)
            return
        loop, pushed = asyncio.get_running_loop(), asyncio.Event()

        def produce() -> None:
            for payload in payloads:
                push(payload)
            loop.call_soon_threadsafe(pushed.set)

        threading.Thread(target=produce).start()
        await pushed.wait()


class _Queue(_OnALoop):
    async def main(self, payloads: Iterable[object]) -> None:
        queue: asyncio.Queue[object] = asyncio.Queue(ROOM if self.way.awaited else 0)
        workers = [asyncio.create_task(work_off(queue, self.handle)) for _ in range(self.workers)]
        if self.way.awaited:
            for payload in payloads:
                await queue.put(payload)
        elif self.way.from_thread:
            loop, put = asyncio.get_running_loop(), queue.put_nowait
            await self.push_all(payloads, lambda payload: loop.call_soon_threadsafe(put, payload))
        else:
            await self.push_all(payloads, queue.put_nowait)
        await queue.join()
        for worker in workers:
            worker.cancel()


class _Tasks(_OnALoop):
    """One task per job, a thousand at a time; as they come from another thread."""

    async def main(self, payloads: Iterable[object]) -> None:
        loop, handle = asyncio.get_running_loop(), self.handle
        if not self.way.from_thread:
            rest = iter(payloads)
            while some := list(itertools.islice(rest, 1000)):
                await asyncio.gather(*[loop.create_task(handle(payload)) for payload in some])
            return
        tasks = set[asyncio.Task[None]]()

        def start(payload: object) -> None:
            task = loop.create_task(handle(payload))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        await self.push_all(payloads, lambda payload: loop.call_soon_threadsafe(start, payload))
        while tasks:
            await asyncio.wait(tasks)


class _Forebay(_OnALoop):
    async def main(self, payloads: Iterable[object]) -> None:
        from forebay import Dispatcher

        room = ROOM if self.way.awaited else 0
        async with Dispatcher(concurrency=self.workers, capacity=room, on_full="block(1m)") as d:
            handler = d.handler(kind="noop")(self.handle)
            if self.way.awaited:
                apush: Callable[[Any], Awaitable[object]] = handler.apush
                for payload in payloads:
                    await apush(payload)
            else:
                await self.push_all(payloads, handler.push)
            await d.adrain()


def _opens(kind: type[_OnALoop], way: Way) -> Callable[[int, Function], _OnALoop]:
    return lambda workers, function: kind(way, workers, function)


_KINDS: dict[str, tuple[str, type[_OnALoop]]] = {
    "queue": ("`asyncio.Queue` and workers", _Queue),
    "tasks": ("a task per job", _Tasks),
    "async": ("Forebay, async handler", _Forebay),
}
_WAYS = {
    "": ("", Way()),
    "-waits": (", waits once", Way(waits=True)),
    "-awaited": (", awaited push", Way(awaited=True)),
    "-awaited-waits": (", awaited push, waits once", Way(awaited=True, waits=True)),
    "-thread": (", pushed by a thread", Way(from_thread=True)),
    "-thread-waits": (", pushed by a thread, waits once", Way(from_thread=True, waits=True)),
}

LOOPS: dict[str, Contender] = {}
for _kind, (_what, _class) in _KINDS.items():
    for _name, (_how, _way) in _WAYS.items():
        if _class is _Tasks and _way.awaited:
            continue  # Nothing is pushed, and nothing has room.
        LOOPS[f"{_kind}{_name}"] = Contender(f"{_what}{_how}", _opens(_class, _way))
        _way = Way(_way.awaited, _way.from_thread, _way.waits, uvloop=True)
        LOOPS[f"uv-{_kind}{_name}"] = Contender(f"{_what}{_how}, uvloop", _opens(_class, _way))

TABLE = tuple(
    f"{loop}{kind}{name}{':100' if kind != 'tasks' else ''}"
    for name in _WAYS
    for loop in ("", "uv-")
    for kind in _KINDS
    if f"{loop}{kind}{name}" in LOOPS
)
"""Every one of them, those to be compared next to each other."""
