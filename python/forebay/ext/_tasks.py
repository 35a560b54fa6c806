"""Handlers, declared before there is a dispatcher, in a module that is imported before a server forks.

What is declared is a `Task`. The dispatcher is opened when somebody first asks for it, in each process for
itself, and gets every task that is declared for it then.
"""

from __future__ import annotations

import inspect
import os
import threading
from collections.abc import Callable, Coroutine
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, overload
from weakref import WeakSet

from forebay._forebay import Job, cli_main

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator
    from typing import Self, Unpack

    from forebay._forebay import Handle, Handler
    from forebay._types import Delay, KindOptions, PushOptions
    from forebay.dispatcher import Dispatcher

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C")


class Task(Generic[P, R, C]):
    """A declared handler: call it to run it here and now, push it to have it run as a job.

    `P` are its parameters, `R` what its job comes to, `C` what a call returns: `R`, or a coroutine of it.
    """

    def __init__(
        self,
        find: Callable[[], Dispatcher],
        function: Callable[..., C],
        kind: str,
        pass_job: bool,
        kind_options: KindOptions,
        push_options: PushOptions | None = None,
    ) -> None:
        """A task is made by declaring it."""
        self._find = find
        self._function = function
        self._kind = kind
        self._pass_job = pass_job
        self._kind_options = kind_options
        self._push_options: PushOptions = push_options or {}

    @property
    def kind(self) -> str:
        """The kind of its jobs."""
        return self._kind

    @property
    def __wrapped__(self) -> Callable[..., C]:
        """The function itself."""
        return self._function

    @property
    def __name__(self) -> str:
        """The name of the function."""
        return self._function.__name__

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> C:
        """Calls the function, and pushes nothing."""
        return self._function(*args, **kwargs)

    def push(self, *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """Pushes a job that calls the function with these arguments."""
        return self._pusher().push(*args, **kwargs)

    def apush(self, *args: P.args, **kwargs: P.kwargs) -> Awaitable[Handle[R]]:
        """The same for an event loop: what is awaited becomes the handle."""
        return self._pusher().apush(*args, **kwargs)

    def options(self, **options: Unpack[PushOptions]) -> Self:
        """The same task, whose pushes have these options besides: `task.options(delay=5).push(...)`."""
        merged: PushOptions = {**self._push_options, **options}
        return type(self)(self._find, self._function, self._kind, self._pass_job, self._kind_options, merged)

    def handler_of(self, dispatcher: Dispatcher) -> Handler[P, R]:
        """The handler that it is there, registered now if it was not."""
        # They are kept by the dispatcher, which they hold: the collector sees that, and takes both.
        known: dict[str, Handler[P, R]] = vars(dispatcher).setdefault("_tasks", {})
        if self._kind not in known:
            register: Any = dispatcher.handler
            make = register(kind=self._kind, pass_job=self._pass_job, **self._kind_options)
            known[self._kind] = make(self._function)
        return known[self._kind]

    def _pusher(self) -> Handler[P, R]:
        handler = self.handler_of(self._find())
        return handler.options(**self._push_options) if self._push_options else handler

    def __repr__(self) -> str:
        return f"<forebay.Task kind={self._kind!r}>"


class JobTask(Task[P, R, C]):
    """A task whose function takes its job first, which `push` leaves out."""

    def __call__(self, job: Job, /, *args: P.args, **kwargs: P.kwargs) -> C:  # type: ignore[override]
        """Calls the function, and pushes nothing."""
        return self._function(job, *args, **kwargs)


class Tasks:
    """The tasks that one dispatcher is to have, or each of several that are alike. Any thread."""

    def __init__(self) -> None:
        """None so far."""
        self._tasks: dict[str, Task[..., Any, Any]] = {}
        self._homes: WeakSet[Home] = WeakSet()

    def declare(self, task: Task[..., Any, Any]) -> None:
        """One more, which those dispatchers that are open get at once.

        Raises:
            ValueError: There is one of that kind.
        """
        former = self._tasks.setdefault(task.kind, task)
        if _place(former.__wrapped__) != _place(task.__wrapped__):
            raise ValueError(
                f"the kind {task.kind!r} is declared twice, by {_place(former.__wrapped__)} and by "
                f"{_place(task.__wrapped__)}: give one of them another name, or kind=..."
            )
        # A module that is loaded again declares its functions again.
        self._tasks[task.kind] = task
        for home in self._homes:
            if (known := home.known()) is not None:
                task.handler_of(known)

    def kinds(self) -> list[str]:
        """What they are called, in order."""
        return sorted(self._tasks)

    def equip(self, dispatcher: Dispatcher) -> None:
        """Registers all of them."""
        for task in list(self._tasks.values()):
            task.handler_of(dispatcher)

    def home(self, open: Callable[[], tuple[Dispatcher, bool]]) -> Home:
        """A place for a dispatcher that has them; `open` is of `Home`."""
        made = Home(self, open)
        self._homes.add(made)
        return made


class Home:
    """Where a dispatcher lives. Any thread, and in every process that is forked."""

    def __init__(self, tasks: Tasks, open: Callable[[], tuple[Dispatcher, bool]]) -> None:
        """`open` makes a dispatcher, and says whether this process is to run its jobs."""
        self._tasks = tasks
        self._open = open
        self._found: tuple[int, Dispatcher] | None = None
        self._instead: Dispatcher | None = None
        # One for each process: whoever holds that of the parent at a fork does not come along.
        self._locks: dict[int, threading.Lock] = {}

    def known(self) -> Dispatcher | None:
        """The dispatcher of this process, if it is open."""
        if self._instead is not None:
            return self._instead
        found = self._found
        return found[1] if found is not None and found[0] == os.getpid() else None

    def dispatcher(self, *, start: bool | None = None) -> Dispatcher:
        """The dispatcher of this process, opened now if it was not: `start` says whether to run jobs then."""
        if (known := self.known()) is not None:
            return known
        with self._locks.setdefault(os.getpid(), threading.Lock()):
            if (known := self.known()) is not None:
                return known
            made, runs = self._open()
            self._tasks.equip(made)
            self._found = (os.getpid(), made)
            if runs if start is None else start:
                made.start()
            return made

    def stop(self, grace: Delay | None = None) -> None:
        """Stops the dispatcher of this process if it is open. Whoever asks for it then gets a new one."""
        found, self._found = self._found, None
        if found is not None and found[0] == os.getpid():
            found[1].stop(grace)

    @contextmanager
    def instead(self, dispatcher: Dispatcher) -> Iterator[Dispatcher]:
        """Has this one for all who ask, for the time of a block, which neither starts nor stops it."""
        self._tasks.equip(dispatcher)
        former, self._instead = self._instead, dispatcher
        try:
            yield dispatcher
        finally:
            self._instead = former


class Register(Protocol):
    """Declares what it is called with."""

    @overload
    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> Task[P, R, Coroutine[Any, Any, R]]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R, R]: ...
    def __call__(self, function: Callable[..., Any], /) -> Any:
        """The task that it is from now on."""


class RegisterWithJob(Protocol):
    """Declares what it is called with, which takes its job first."""

    @overload
    def __call__(
        self, function: Callable[Concatenate[Job, P], Coroutine[Any, Any, R]], /
    ) -> JobTask[P, R, Coroutine[Any, Any, R]]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[Job, P], R], /) -> JobTask[P, R, R]: ...
    def __call__(self, function: Callable[..., Any], /) -> Any:
        """The task that it is from now on."""


def declared(
    tasks: Tasks,
    find: Callable[[], Dispatcher],
    function: Callable[..., Any],
    kind: str,
    pass_job: bool,
    options: KindOptions,
) -> Task[..., Any, Any]:
    """Makes a task of a function; `find` is asked for the dispatcher at each push.

    Raises:
        TypeError: It is none.
        ValueError: There is a task of that kind.
    """
    if not inspect.isroutine(function):
        raise TypeError(f"{function!r} cannot be a task: it is not a function")
    made: Task[..., Any, Any] = (JobTask if pass_job else Task)(find, function, kind, pass_job, options)
    tasks.declare(made)
    return made


def show_counts(url: str, json: bool) -> int:
    """Has the command `forebay` count the jobs of a file, whoever has it open; its exit code."""
    answer = cli_main(["forebay", "--db", url, *(["--json"] if json else []), "stats"])
    return answer if isinstance(answer, int) else 0


def _place(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{function.__qualname__}"
