"""Processes that die at a certain point, and what they had been promised by then."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, NoReturn, TypeAlias, get_args
from uuid import UUID

from forebay import dispatcher as _dispatcher
from forebay._forebay import Core, Handle, Job, crash_at, registered
from forebay.dispatcher import Dispatcher
from forebay.errors import InvalidError
from forebay.testing._replace import stand_in

if TYPE_CHECKING:
    from types import CodeType, FrameType

    from forebay._types import Url

Point: TypeAlias = Literal[
    "push", "writing", "written", "pushed", "claimed", "started", "returned", "answered"
]
"""Where a process dies, in the order in which a job comes there:

- "push": somebody pushes a job; nothing of it has been written.
- "writing": a group of changes is written to the file, and its transaction is not committed.
- "written": it is committed, and nobody has been told.
- "pushed": a push has been answered, and its caller is about to hear of it.
- "claimed": a worker has a job, and its handler has not been called.
- "started": the handler has begun; one that is not written in Python is about to.
- "returned": it has returned or raised, and nothing of that is stored.
- "answered": its answer is in the file.

"writing" and "written" count groups, of whatever is written, in a file that one process owns; the others
count pushes and attempts.
"""
_CORE = ("writing", "written")
_ENDS = ("succeeded", "failed", "retried", "returned", "cancelled")
_LATE = 2.0
"""How long jobs may still run after the function has returned, in seconds."""


class Crashed(NamedTuple):
    """What a process had been promised when it died."""

    at: Point
    """Where it died."""
    acknowledged: list[UUID]
    """The jobs whose pushes had been answered, in order: these are in the file."""
    claimed: list[UUID]
    """The job of each attempt that had been claimed, in order."""
    answered: list[UUID]
    """The job of each attempt whose answer is in the file, in order, where somebody waited for that: with
    `at="answered"`."""
    notes: list[Any]
    """What the function said with `note`."""
    url: Url
    """The file."""


def note(value: object) -> None:
    """Called in a function that `crash` runs: leaves a value that JSON can hold to the test.

    Elsewhere it does nothing.
    """
    if _child is not None:
        _child.tell("note", value)


def crash(
    function: Callable[..., object],
    *,
    at: Point,
    url: Url,
    nth: int = 1,
    args: Iterable[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    dispatcher: Dispatcher | None = None,
    timeout: float = 30.0,
    **options: Any,
) -> Crashed:
    """Runs a function in a child process, kills that at a point, and tells what had been promised.

    The child is a fork, so the function may be a local one; what it does to objects is lost with it. It gets
    a dispatcher first, opened on the file of `url`, and should start its workers and wait for its jobs by
    itself. Open the file again after that and see what became of them:

        def orders(d: forebay.Dispatcher) -> None:
            deliver = d.handler(kind="deliver")(print)
            d.start()
            for n in range(10):
                deliver.push(n)
            d.drain()


        def test_orders_outlive_the_process(tmp_path: Path) -> None:
            crashed = crash(orders, at="started", nth=3, url=tmp_path / "jobs.db")
            with forebay.Dispatcher(tmp_path / "jobs.db") as d:
                d.handler(kind="deliver")(print)
                d.drain()
                assert {d.get(id).status for id in crashed.acknowledged} == {"succeeded"}

    Every dispatcher that the function opens counts. Python warns of forks beside threads; those of
    dispatchers that are open here do not matter, as the child has nothing to do with these. POSIX only.

    Args:
        function: What runs in the child.
        at: Where it dies; see `Point`.
        url: The file of its jobs, as of a dispatcher.
        nth: For the how manyth time it comes there.
        args: What the function gets after the dispatcher.
        kwargs: What it gets by name.
        dispatcher: A dispatcher of the program in whose place the one on the file is put, with its handlers,
            as `replace` does it; the function does not get one then.
        timeout: How long the child may take, in seconds.
        **options: Options of the dispatcher.

    Raises:
        AssertionError: The child never came to the point: its function returned, raised or hung. It says
            which.
        InvalidError: There is no such point.
    """
    __tracebackhide__ = True
    points = get_args(Point)
    if at not in points:
        raise InvalidError(f"{at!r} is no point; there are {', '.join(points)}")
    if nth < 1:
        raise InvalidError(f"nth is {nth}; the first time is 1")
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        os.close(reader)
        _Child(writer, at, nth).run(function, url, dispatcher, options, tuple(args), dict(kwargs or {}))
    os.close(writer)
    try:
        told, hung = _heard(reader, time.monotonic() + timeout)
    except BaseException:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    finally:
        os.close(reader)
    if hung:
        os.kill(child, signal.SIGKILL)
    # It has closed its pipe, which only its end does.
    status = os.waitpid(child, 0)[1]
    found: dict[str, list[Any]] = {name: [] for name in ("pushed", "claimed", "answered", "note")}
    for name, value in told:
        found.setdefault(name, []).append(value)
    if hung or "over" in found or os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
        raise AssertionError(_failure(at, nth, found, hung, timeout, status))
    pushed, claimed, answered = (
        [UUID(id) for id in found[name]] for name in ("pushed", "claimed", "answered")
    )
    return Crashed(at, pushed, claimed, answered, found["note"], url)


def _heard(reader: int, deadline: float) -> tuple[list[tuple[str, Any]], bool]:
    """What the child tells until its end, and whether that did not come."""
    text = b""
    while True:
        ready, _, _ = select.select([reader], [], [], max(0.0, deadline - time.monotonic()))
        more = os.read(reader, 1 << 16) if ready else b""
        text += more
        if not more:
            # The last line may have been cut.
            lines = text.split(b"\n")[:-1]
            return [tuple(json.loads(line)) for line in lines], not ready


def _failure(
    at: Point, nth: int, found: dict[str, list[Any]], hung: bool, timeout: float, status: int
) -> str:
    times = len(found.get("passed", []))
    came = f'the process came to the point "{at}" {times} times, not {nth}'
    if at in _CORE:
        came = f'the process did not come to the point "{at}" {nth} times'
    if hung:
        return f"{came}: it ran for longer than {timeout:g} s"
    if "over" in found:
        (why,) = found["over"]
        return f"{came}: {why}"
    return f"{came}: it ended with {os.waitstatus_to_exitcode(status)}"


class _Child:
    """The process that is to die."""

    def __init__(self, writer: int, at: Point, nth: int) -> None:
        global _child
        _child = self
        self._writer = writer
        self._at = at
        self._left = nth
        self._lock = threading.Lock()
        self._bodies: set[CodeType] = set()
        self._begun: list[FrameType] = []
        self._ears: list[tuple[Dispatcher, threading.Thread]] = []

    def run(
        self,
        function: Callable[..., object],
        url: Url,
        replaced: Dispatcher | None,
        options: dict[str, Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> NoReturn:
        """Runs the function, and comes to no other end than that of the process."""
        try:
            _dispatcher.opened_as = self._opened
            dispatcher = Dispatcher(url, **options)
            if self._at == "started":
                threading.setprofile(self._profile)
                sys.setprofile(self._profile)
            if self._at in _CORE:
                crash_at(self._at, self._left)
            if replaced is None:
                function(dispatcher, *args, **kwargs)
            else:
                with stand_in(replaced, dispatcher):
                    function(*args, **kwargs)
            if self._at == "answered":
                threading.Event().wait(_LATE)
                self._hear_out()
            self.tell("over", "its function returned before")
        except BaseException:
            self.tell("over", f"its function raised before\n{traceback.format_exc()}")
        finally:
            os._exit(1)

    def tell(self, name: str, value: object) -> None:
        """Tells the test."""
        line = json.dumps([name, value]).encode() + b"\n"
        with self._lock:
            self._write(line)

    def come(self, point: Point) -> None:
        """The process is at a point; it may be the last."""
        if point != self._at:
            return
        with self._lock:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            self._write(json.dumps(["passed", None]).encode() + b"\n")

    def _write(self, line: bytes) -> None:
        while line:
            line = line[os.write(self._writer, line) :]

    # ---- watching ---------------------------------------------------------------------------------------

    def _opened(self, cls: type[Dispatcher], url: Url, options: dict[str, Any]) -> Dispatcher:
        """Opens a dispatcher and watches it."""
        opened = Core.__new__(cls, url, **options)
        opened.add_hooks(
            push=self._push,
            before=lambda job: self._before(opened, job),
            after=lambda *_: self.come("returned"),
        )
        if self._at == "answered":
            events = opened.subscribe(capacity=1 << 16)
            ear = threading.Thread(target=self._hear, args=(opened, events), daemon=True)
            self._ears.append((opened, ear))
            ear.start()
        return opened

    def _push(
        self, kind: str, queue: str, headers: dict[str, str]
    ) -> Callable[[Handle[Any] | None, BaseException | None], object]:
        self.come("push")
        return self._pushed

    def _pushed(self, handle: Handle[Any] | None, error: BaseException | None) -> None:
        if handle is not None:
            self.tell("pushed", str(handle.id))
            self.come("pushed")

    def _before(self, dispatcher: Dispatcher, job: Job) -> None:
        self.tell("claimed", str(job.id))
        self.come("claimed")
        if self._at == "started" and (handler := registered(dispatcher).get(job.kind)):
            code = _code(handler[0])
            if code is None:
                self.come("started")
            else:
                self._bodies.add(code)

    def _profile(self, frame: FrameType, event: str, _: object) -> None:
        """What Python tells of every call: some are those of handlers."""
        if event == "call" and frame.f_code in self._bodies:
            # A coroutine is called again whenever it goes on.
            if not any(frame is begun for begun in self._begun):
                self._begun.append(frame)
                self.come("started")

    def _hear(self, dispatcher: Dispatcher, events: Any) -> None:
        """Hears of answers, and has each written before it counts."""
        for event in events:
            if event.kind in _ENDS:
                dispatcher.flush()
                self.tell("answered", str(event.id))
                self.come("answered")

    def _hear_out(self) -> None:
        """Hears of what has been answered and was not heard yet: events end with their dispatcher."""
        for dispatcher, ear in self._ears:
            dispatcher.stop()
            ear.join()


_child: _Child | None = None


def _code(function: Any) -> CodeType | None:
    """What runs when a handler does; None if it is not written in Python, so that nobody tells of it."""
    while hasattr(function, "func"):
        function = function.func
    if not hasattr(function, "__code__") and not hasattr(function, "__func__"):
        # An instance, or a class of which one is called.
        cls = function if isinstance(function, type) else type(function)
        function = vars(cls).get("__call__", function)
    function = getattr(function, "__func__", function)
    code: CodeType | None = getattr(function, "__code__", None)
    return code
