"""Flask: an extension whose tasks run in the context of the application.

    from forebay.ext.flask import Forebay

    forebay = Forebay()

    @forebay.task(max_attempts=5)
    def welcome(user: int) -> None:
        mail(db.session.get(User, user))  # In an app context, as in a request.

    def create_app() -> Flask:
        app = Flask(__name__)
        app.config["FOREBAY_URL"] = "sqlite:/var/lib/shop/jobs.db"
        forebay.init_app(app)
        return app

    @app.post("/users")
    def register() -> str:
        welcome.options(delay=60).push(user.id)

What an application says in its config:

* `FOREBAY_URL`: what is opened; "memory:" if left out.
* `FOREBAY_OPTIONS`: a dict of the options of `forebay.Dispatcher`.
* `FOREBAY_START`: whether the processes that serve requests run jobs as well. If left out they do, unless the
  options say `shared`: then `flask forebay worker` does.

The dispatcher is opened, in each process for itself, when somebody first asks for it, so a server may fork
before. Two commands come with it: `flask forebay worker` runs jobs until it is told to stop, `flask forebay
stats` counts them.
"""

from __future__ import annotations

import sys
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal, overload

import click
from flask import current_app
from flask.cli import AppGroup

from forebay import _function
from forebay.dispatcher import Dispatcher
from forebay.ext._tasks import (
    Home,
    JobTask,
    P,
    R,
    Register,
    RegisterWithJob,
    Task,
    Tasks,
    declared,
    show_counts,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from contextlib import AbstractContextManager
    from typing import Unpack

    from flask import Flask
    from flask.ctx import AppContext

    from forebay._forebay import Job
    from forebay._types import Delay, KindOptions

__all__ = ["Forebay", "JobTask", "Task"]

_EXTENSION = "forebay"
_context: ContextVar[AppContext | None] = ContextVar("forebay_app_context", default=None)


class Forebay:
    """The extension, of one application or of several, each with a dispatcher of its own."""

    def __init__(self, app: Flask | None = None) -> None:
        """Makes it, for this application at once if there is one already."""
        self._tasks = Tasks()
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Gives an application its commands, and its dispatcher when somebody asks for it."""
        app.config.setdefault("FOREBAY_URL", "memory:")
        app.config.setdefault("FOREBAY_OPTIONS", {})
        app.config.setdefault("FOREBAY_START", None)
        app.extensions[_EXTENSION] = self._tasks.home(lambda: _open(app))
        app.cli.add_command(_commands)

    @property
    def dispatcher(self) -> Dispatcher:
        """The dispatcher of the current application."""
        return _home(current_app).dispatcher()

    def stop(self, app: Flask, grace: Delay | None = None) -> None:
        """Stops the dispatcher of an application if it is open. The end of the process does so by itself."""
        _home(app).stop(grace)

    def instead(self, app: Flask, dispatcher: Dispatcher) -> AbstractContextManager[Dispatcher]:
        """Has an application use this dispatcher for the time of a block: that of a test."""
        return _home(app).instead(_in_context(app, dispatcher))

    @overload
    def task(
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> Task[P, R, Coroutine[Any, Any, R]]: ...
    @overload
    def task(self, function: Callable[P, R], /) -> Task[P, R, R]: ...
    @overload
    def task(
        self,
        function: None = None,
        /,
        *,
        kind: str | None = None,
        pass_job: Literal[False] = False,
        **options: Unpack[KindOptions],
    ) -> Register: ...
    @overload
    def task(
        self,
        function: None = None,
        /,
        *,
        kind: str | None = None,
        pass_job: Literal[True],
        **options: Unpack[KindOptions],
    ) -> RegisterWithJob: ...
    def task(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        kind: str | None = None,
        pass_job: bool = False,
        **options: Unpack[KindOptions],
    ) -> Any:
        """Declares a function as a handler, for every application; see `forebay.Dispatcher.handler`.

        It runs in an app context of its own: `current_app`, `g` and what other extensions keep there, and
        functions registered with `teardown_appcontext` are called after it, with what it raised.
        """

        def register(function: Callable[..., Any]) -> Task[..., Any, Any]:
            name = kind if kind is not None else _function.name(function)
            return declared(self._tasks, lambda: self.dispatcher, function, name, pass_job, options)

        return register if function is None else register(function)


def _home(app: Flask) -> Home:
    home: Home | None = app.extensions.get(_EXTENSION)
    if home is None:
        raise RuntimeError(f"{app!r} has no dispatcher: call init_app of the extension with it")
    return home


def _open(app: Flask) -> tuple[Dispatcher, bool]:
    options = dict(app.config["FOREBAY_OPTIONS"])
    start = app.config["FOREBAY_START"]
    made = _in_context(app, Dispatcher(app.config["FOREBAY_URL"], **options))
    return made, not options.get("shared") if start is None else bool(start)


def _in_context(app: Flask, dispatcher: Dispatcher) -> Dispatcher:
    """Has each attempt run in a context of the application."""

    def before(job: Job) -> None:
        context = app.app_context()
        context.push()
        _context.set(context)

    def after(job: Job, outcome: str, seconds: float) -> None:
        if (context := _context.get()) is not None:
            _context.set(None)
            context.pop(sys.exception())

    dispatcher.add_hooks(before=before, after=after)
    return dispatcher


_commands = AppGroup("forebay", help="The jobs of the application.")


@_commands.command("worker")
@click.option("--threads", type=click.IntRange(min=1), help="Run no more jobs at once than this.")
def _worker(threads: int | None) -> None:
    """Run jobs until SIGTERM or Ctrl-C."""
    _home(current_app).dispatcher(start=False).run(threads)


@_commands.command("stats")
@click.option("--json", is_flag=True, help="Write JSON.")
def _stats(json: bool) -> None:
    """Count the jobs, asking the process that has the file open."""
    url = current_app.config["FOREBAY_URL"]
    if url == "memory:":
        raise click.ClickException("FOREBAY_URL is memory:, and no other process can look into that")
    sys.exit(show_counts(str(url), json))
