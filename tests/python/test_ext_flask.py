"""Flask: tasks in the context of the application, and its commands."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import LIMIT
from flask import Flask, current_app, g
from forebay import Dispatcher, Job
from forebay.ext.flask import Forebay

Opened = Callable[..., Dispatcher]


class Program:
    """An extension with its tasks, and an application of it."""

    def __init__(self) -> None:
        self.ext = Forebay()
        self.seen: list[object] = []
        self.torn_down: list[BaseException | None] = []
        self.app = self.make("one")

        @self.ext.task(max_attempts=2)
        def name(fail: bool = False) -> str:
            g.number = len(self.seen)
            self.seen.append(current_app.name)
            if fail and len(self.seen) == 1:
                raise ZeroDivisionError
            return current_app.name

        @self.ext.task(pass_job=True, kind="with job")
        def attempt(job: Job, add: int) -> int:
            return job.attempt + add

        @self.ext.task
        async def later() -> str:
            before = g.later = current_app.name
            await asyncio.sleep(0)
            return f"{before} {current_app.name} {g.later}"

        self.name, self.attempt, self.later = name, attempt, later

    def make(self, name: str) -> Flask:
        app = Flask(name)
        app.config["FOREBAY_OPTIONS"] = {"retry": "constant(1ms)", "concurrency": 2}

        @app.teardown_appcontext
        def down(error: BaseException | None) -> None:
            if hasattr(g, "number"):
                self.torn_down.append(error)

        self.ext.init_app(app)
        return app


@pytest.fixture
def program() -> Iterator[Program]:
    program = Program()
    yield program
    program.ext.stop(program.app)


def test_a_task_runs_in_a_context_of_its_application(program: Program) -> None:
    other = program.make("other")
    for app in (program.app, other, program.app):
        with app.app_context():
            assert program.name.push().result(LIMIT) == app.name
            assert program.attempt.push(2).result(LIMIT) == 3
            assert program.later.push().result(LIMIT) == f"{app.name} {app.name} {app.name}"
            program.ext.dispatcher.drain(LIMIT)
    assert program.seen == ["one", "other", "one"]
    assert program.torn_down == [None] * 3
    with pytest.raises(RuntimeError, match="outside of application context"):
        program.name.push()
    program.ext.stop(other)


def test_what_is_torn_down_knows_what_was_raised(program: Program) -> None:
    with program.app.app_context():
        assert program.name.push(fail=True).result(LIMIT) == "one"
        program.ext.dispatcher.drain(LIMIT)
    raised, fine = program.torn_down
    assert isinstance(raised, ZeroDivisionError)
    assert fine is None


def test_a_task_is_a_function_still(program: Program) -> None:
    with program.app.app_context():
        assert program.name() == "one"
        assert program.name.kind == program.name.__name__ == "name"
        assert program.attempt.kind == "with job"
        assert program.seen == ["one"]
        assert "forebay" in program.app.extensions


def test_a_kind_is_declared_once(program: Program) -> None:
    with pytest.raises(ValueError, match=r"the kind 'name' is declared twice, by .*Program.*name and"):

        @program.ext.task
        def name() -> None: ...

    with pytest.raises(TypeError, match="is not a function"):
        program.ext.task(dict)


def test_what_is_declared_late_is_found(program: Program) -> None:
    with program.app.app_context():
        d = program.ext.dispatcher

        @program.ext.task
        def late(n: int) -> int:
            return n

        # By its kind: nobody has pushed through the task yet.
        assert d.push("late", 3).result(LIMIT) == 3


def test_options_of_a_push(program: Program, opened: Opened) -> None:
    d = opened()
    with program.app.app_context(), program.ext.instead(program.app, d):
        handle = program.name.options(delay=60, key="k").options(priority=3).push()
        job = handle.job()
        assert (job.status, job.key, job.priority, job.kind) == ("scheduled", "k", 3, "name")
        assert d.list().total == 1
        # Nothing runs, as the test's dispatcher was not started.
        assert program.name.push().status == "queued"
    with program.app.app_context():
        assert program.ext.dispatcher is not d


def test_an_extension_that_was_not_initialised_says_so() -> None:
    ext = Forebay()
    with Flask("bare").app_context(), pytest.raises(RuntimeError, match="call init_app"):
        assert ext.dispatcher


def test_threads_that_ask_at_once_open_one(program: Program) -> None:
    found: list[Dispatcher] = []
    barrier = threading.Barrier(8)

    def ask() -> None:
        barrier.wait(LIMIT)
        with program.app.app_context():
            found.append(program.ext.dispatcher)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert len(found) == 8
    assert len(set(map(id, found))) == 1


SITE = """
import os, sys
from flask import Flask
from forebay.ext.flask import Forebay

forebay = Forebay()

@forebay.task(max_attempts=3)
def work(n):
    os.write(1, f"worked {n}\\n".encode())  # Whole lines, also from two threads.

def create_app():
    app = Flask(__name__)
    app.config["FOREBAY_URL"] = os.environ["JOBS"]
    app.config["FOREBAY_OPTIONS"] = {"shared": True}
    forebay.init_app(app)

    @app.cli.command("push")
    def push():
        for n in range(3):
            work.push(n)
        assert not forebay.dispatcher._threads, "the workers work, not this process"

    return app
"""


def test_the_commands(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SITE)
    where = os.environ | {"JOBS": f"sqlite:{tmp_path / 'jobs.db'}", "FLASK_APP": "shop"}

    def flask(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "flask", *words]
        return subprocess.run(
            command, cwd=tmp_path, env=where, capture_output=True, text=True, check=False, timeout=LIMIT
        )

    done = flask("push")
    assert (done.returncode, done.stderr) == (0, "")
    done = flask("forebay", "stats", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert '"queued":3' in done.stdout.replace(" ", "")
    command = [sys.executable, "-m", "flask", "forebay", "worker", "--threads", "2"]
    with subprocess.Popen(command, cwd=tmp_path, env=where, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        assert {worker.stdout.readline() for _ in range(3)} == {f"worked {n}\n" for n in range(3)}
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(LIMIT) == 0
    done = flask("forebay", "stats")
    assert done.returncode == 0
    where["JOBS"] = "memory:"
    done = flask("forebay", "stats")
    assert (done.returncode, done.stderr) == (
        1,
        "Error: FOREBAY_URL is memory:, and no other process can look into that\n",
    )


def test_a_server_may_fork_before_it_asks(tmp_path: Path) -> None:
    """As gunicorn does it: the application is made first, and each child has a dispatcher of its own."""
    program = """
import os, sys
from flask import Flask
from forebay.ext.flask import Forebay
ext = Forebay()
app = Flask("app")
ext.init_app(app)

@ext.task
def pid():
    return os.getpid()

with app.app_context():
    assert pid.push().result(60) == os.getpid()
    for _ in range(3):
        if (child := os.fork()) == 0:
            assert pid.push().result(60) == os.getpid()
            sys.exit(0)
        assert os.waitpid(child, 0)[1] == 0
    assert pid.push().result(60) == os.getpid()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=LIMIT
    )
    assert (done.returncode, done.stderr) == (0, "")
