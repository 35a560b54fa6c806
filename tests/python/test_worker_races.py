"""`forebay worker` where two things happen at once: each race is planted, not waited for."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import LIMIT
from forebay import Dispatcher, _supervisor
from forebay._look import ZERO, Counts
from forebay._screen import Live, Screen
from test_worker import Command


class Terminal(io.StringIO):
    """What somebody watches."""

    def isatty(self) -> bool:
        return True


def counts(done: int) -> Counts:
    return Counts(**(ZERO | {"done": done}), at_us=0, per_second=0.0, oldest_wait_us=0)


def test_a_look_in_the_midst_of_a_line_leaves_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `print` does is to write the text, and then to write the end of the line."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("NO_COLOR", "1")
    screen = Live(terminal)
    screen.look(counts(1))
    before = len(terminal.getvalue())
    sys.stdout.write("hello")
    screen.look(counts(2))
    sys.stdout.write("\n")
    screen.look(counts(3))
    screen.close()
    shown = terminal.getvalue()[before:]
    assert shown.startswith("\r\x1b[Khello\n")
    assert "done 2" not in shown
    assert "done 3" in shown


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., Command]]:
    """Starts a worker of a program."""
    made: list[Command] = []

    def started(program: str, *words: str) -> Command:
        (tmp_path / "app.py").write_text(program)
        made.append(Command(tmp_path, "app:d", "--json", *words))
        return made[-1]

    yield started
    for command in made:
        command.__exit__()


EARLY = """
import os, signal
import forebay

class Early(forebay.Dispatcher):
    def run(self, *args, **options):
        os.kill(os.getpid(), signal.{signal})
        super().run(*args, **options)

d = Early("sqlite:jobs.db", shared=True)

@d.handler
def double(n):
    return 2 * n
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_between_the_start_and_the_run_stops_it(started: Callable[..., Command], name: str) -> None:
    running = started(EARLY.format(signal=name))
    running.event("started")
    assert running.event("stopped")["done"] == 0
    assert running.end() == (0, "")


LATE = """
import threading
import forebay
from forebay import _look

d = forebay.Dispatcher("sqlite:jobs.db", shared=True)

@d.handler
def double(n):
    return 2 * n

totals = _look.totals
def late(stats):
    # The thread that looks is kept from it by other programs.
    if threading.current_thread().name == "forebay-screen":
        while not d.stopping and not d.list(status="succeeded").total:
            pass
        stats = d.stats()
    return totals(stats)
_look.totals = late
"""


@pytest.mark.parametrize("words", [(), ("--processes", "2")], ids=["alone", "several"])
def test_what_ends_before_the_first_look_is_counted(
    started: Callable[..., Command], words: tuple[str, ...], tmp_path: Path
) -> None:
    file = Dispatcher(f"sqlite:{tmp_path / 'jobs.db'}", shared=True)
    running = started(LATE, "--interval", "10ms", *words)
    running.event("started")
    assert file.push("double", 1).result(LIMIT) == 2
    running.process.send_signal(signal.SIGTERM)
    running.event("stopping")
    assert running.event("stopped")["done"] == 1
    file.stop()


class Notes(Screen):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str, **more: object) -> None:
        self.notes.append(text)


SHORT = """
import json, os, socket, sys
pipe = socket.socket(fileno=int(os.environ["FOREBAY_WORKER_SOCKET"]))
pipe.sendall(json.dumps(dict(event="started", pid=os.getpid(), grace="1s")).encode() + b"\\n")
os._exit(3)
"""


def test_a_child_that_has_died_before_it_is_heard_starts_once_more() -> None:
    """What it told of its start is heard with its end: it is not back, and nobody starts it at once."""
    said: Any = {"processes": 1, "reload": False}
    screen = Notes()
    parent = _supervisor.Supervisor(said, screen)
    (child,) = parent._children
    child.start([sys.executable, "-c", SHORT], parent._selector, above=False)
    process = child.process
    assert process is not None
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    parent._bury(child)
    assert child.process is None
    assert child.due is not None
    assert screen.notes == ["process 1 ended with exit code 3; a new one starts in 0.1s"]
    parent._selector.close()
