"""`forebay worker`: finding the dispatcher, serving it, and what it shows to whom."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import LIMIT
from forebay import Dispatcher
from forebay._look import ZERO, Looks, Totals, Waits

APP = """
import os, sys, threading
import forebay

# Open for both, so that what is written stays there until somebody takes it.
gate = os.open("gate", os.O_RDWR)
d = forebay.Dispatcher("sqlite:jobs.db", concurrency=2, shared=True, lease="5s", grace="600s")

@d.handler
def double(n):
    return 2 * n

@d.handler(max_attempts=3, pass_job=True)
def hold(job, _):
    os.write(1, f"holding {os.getpid()}\\n".encode())
    os.read(gate, 1)
    return job.attempt

@d.handler
def tell(text):
    print(text)

@d.handler
def hang(_):
    os.write(1, b"hanging\\n")
    threading.Event().wait()

class Parts:
    dispatcher = d

def make():
    return d

def broken():
    raise KeyError("inside")

bare = forebay.Dispatcher()
number = 3
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """A folder with a program, and a gate at which its handlers hold."""
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "only.py").write_text("from app import d\nsame = d\n")
    (tmp_path / "two.py").write_text("from app import d, bare\n")
    (tmp_path / "none.py").write_text("number = 3\n")
    (tmp_path / "wrong.py").write_text("def deep():\n    import no_such_thing\n\ndeep()\n")
    (tmp_path / "torn.py").write_text("def (:\n")
    (tmp_path / "stopped.py").write_text("from app import d\nd.stop()\n")
    (tmp_path / "memory.py").write_text(
        "import forebay\nd = forebay.Dispatcher()\nd.handler(kind='x')(print)\n"
    )
    os.mkfifo(tmp_path / "gate")
    return tmp_path


@pytest.fixture
def file(app: Path) -> Iterator[Dispatcher]:
    """The file of the program, to push to and to look at."""
    d = Dispatcher(f"sqlite:{app / 'jobs.db'}", shared=True)
    yield d
    d.stop()


class Command:
    """A command that runs, with a pipe or a terminal to it."""

    def __init__(self, folder: Path, *words: str, terminal: bool = False, **environment: str) -> None:
        env = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "TERM")} | environment
        self._read, write = pty.openpty() if terminal else os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "forebay", "worker", *words],
            cwd=folder,
            env={"TERM": "xterm"} | env,
            stdin=subprocess.DEVNULL,
            stdout=write,
            stderr=write if terminal else subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        os.close(write)
        self.seen = ""

    def __enter__(self) -> Command:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            # Its processes have groups of their own, and would let what they run end first.
            task = Path(f"/proc/{self.process.pid}/task/{self.process.pid}")
            children = [int(child) for child in (task / "children").read_text().split()]
            os.killpg(self.process.pid, signal.SIGKILL)
            for child in children:
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
        self.process.communicate()
        self.hush()

    def hush(self) -> None:
        """Closes the end that is read."""
        if self._read >= 0:
            os.close(self._read)
        self._read = -1

    def until(self, pattern: str) -> re.Match[str]:
        """Waits for output that fits, and forgets what came before it ended."""
        deadline = time.monotonic() + LIMIT
        while (found := re.search(pattern, self.seen)) is None:
            wait = max(0.0, deadline - time.monotonic())
            data = b""
            if select.select([self._read], [], [], wait)[0]:
                try:
                    data = os.read(self._read, 1 << 16)
                except OSError:  # The other end of a terminal is gone.
                    pass
            assert data, f"no {pattern!r} came, but at last {self.seen[-500:]!r}"
            # A terminal may be read between the two.
            self.seen = (self.seen + data.decode()).replace("\r\n", "\n")
        self.seen = self.seen[found.end() :]
        return found

    def event(self, name: str) -> dict[str, Any]:
        """Waits for an event of this name."""
        text = self.until(rf'\{{"event": "{name}".*\}}\n').group()
        told: dict[str, Any] = json.loads(text)
        return told

    def end(self) -> tuple[int, str]:
        """Waits for the end: the exit code, and the errors."""
        _, errors = self.process.communicate(timeout=LIMIT)
        return self.process.returncode, errors or ""


Started = Callable[..., Command]


@pytest.fixture
def worker(app: Path) -> Iterator[Started]:
    """Starts workers that are gone at the end."""
    made: list[Command] = []

    def worker(*words: str, **more: Any) -> Command:
        made.append(Command(app, *words, **more))
        return made[-1]

    yield worker
    for command in made:
        command.__exit__()


def opened(app: Path) -> None:
    """Lets one handler through the gate, of a program that runs."""
    with (app / "gate").open("w") as gate:
        gate.write("x")


WRONG = {
    "ap": "no module 'ap', neither in .* did you mean app?",
    "app.py": "'app.py' is a file; name the module instead: app",
    "./app": r"'./app' is a file; name the module instead: app",
    "gone.away": "no module 'gone', neither in",
    "app.part:d": r"no module 'app\.part'",
    ":d": "no module is named; write module:name",
    "app:e": "app has no 'e'; its dispatchers are app:d, app:bare",
    "app:mak": r"app has no 'mak'; did you mean make\?",
    "app:Parts.gone": "the type before it has no 'gone'",
    "app:make": r"app:make is a function and no Dispatcher; if a call of it returns one, write app:make\(\)",
    "app:double": "app:double is a Handler and no Dispatcher",
    "app:number": "app:number is a int and no Dispatcher; app must have one under that name",
    "app:number()": "number is a int and cannot be called",
    "app:make()x": "is no name",
    "app:bare": "has no handlers, so nothing would ever run; import the modules that register them in app",
    "two": "two has 2 dispatchers, so say which; its dispatchers are two:d, two:bare",
    "none": r"none has no dispatcher; name what makes one, as in none:make\(\)",
    "stopped": "stopped has been stopped already",
}


def test_what_is_wrong_with_a_target_is_said(app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from forebay import _target

    monkeypatch.chdir(app)
    monkeypatch.syspath_prepend(str(app))
    try:
        for target, text in WRONG.items():
            with pytest.raises(_target.NoTarget) as caught:
                _target.find(target)
            assert re.search(text, str(caught.value)), (target, str(caught.value))
    finally:
        for name in ("app", "two", "none", "stopped"):
            for part in vars(sys.modules.pop(name, object)).values():
                if isinstance(part, Dispatcher):
                    part.stop()


def test_no_target_ends_with_2(worker: Started) -> None:
    text = "forebay: app has no 'mak'; did you mean make?\n"
    assert worker("app:mak").end() == (2, text)
    code, errors = worker("app:mak", "--json").end()
    assert (code, json.loads(errors)["error"]["exit_code"]) == (2, 2)
    code, errors = worker("memory", "--processes", "2").end()
    assert code == 2
    assert "has its jobs to itself" in errors
    assert errors.count("\n") == 1, "one process says it"


@pytest.mark.parametrize("words", [(), ("--processes", "3")], ids=["alone", "several"])
def test_an_error_of_the_program_is_shown_as_it_is(
    worker: Started, app: Path, words: tuple[str, ...]
) -> None:
    for target, first, last in (
        ("wrong", f'File "{app}/wrong.py", line 4', "ModuleNotFoundError: No module named 'no_such_thing'"),
        ("app:broken()", f'File "{app}/app.py"', "KeyError: 'inside'"),
        ("torn", f'File "{app}/torn.py", line 1', "SyntaxError: invalid syntax"),
    ):
        code, errors = worker(target, *words).end()
        lines = errors.splitlines()
        shown = [line for line in lines if line.startswith("  File")]
        assert (code, lines[-1]) == (1, last)
        assert shown[0].startswith(f"  {first}")
        assert all(str(app) in line for line in shown), "what imported it is nobody's business"
        assert errors.count("Error:") == 1


@pytest.mark.parametrize("target", ["app:d", "app:make()", "app:Parts.dispatcher", "only"])
def test_it_serves(worker: Started, file: Dispatcher, target: str) -> None:
    job = file.push("double", 21)
    running = worker(target, "--json", "--threads", "1")
    about = running.event("started")
    assert (about["target"], about["url"], about["threads"]) == (target, "sqlite:jobs.db", 1)
    assert about["handlers"]["hold"] == {"max_attempts": "3"}
    assert job.result(LIMIT) == 42
    running.process.send_signal(signal.SIGTERM)
    last = running.event("stopped")
    assert (last["done"], last["failed"], last["handed_back"]) == (1, 0, 0)
    assert running.end() == (0, "")


@pytest.mark.parametrize("words", [(), ("--processes", "2")], ids=["alone", "several"])
@pytest.mark.parametrize("what", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_lets_jobs_end(
    worker: Started, file: Dispatcher, app: Path, what: signal.Signals, words: tuple[str, ...]
) -> None:
    job = file.push("hold")
    running = worker("app:d", "--json", "--interval", "10ms", *words)
    running.until(r"holding \d+\n")
    running.until(r'"counts", .*"running": 1')
    running.process.send_signal(what)
    assert running.event("stopping")["running"] == 1
    assert job.status == "running"
    opened(app)
    assert job.result(LIMIT) == 1
    assert running.event("stopped")["done"] == 1
    assert running.end() == (0, "")


@pytest.mark.parametrize("words", [(), ("--processes", "2")], ids=["alone", "several"])
def test_the_second_ctrl_c_hands_back(worker: Started, file: Dispatcher, words: tuple[str, ...]) -> None:
    job = file.push("hang")
    running = worker("app:d", "--json", "--interval", "10ms", *words)
    running.until("hanging\n")
    running.process.send_signal(signal.SIGINT)
    running.event("stopping")
    running.process.send_signal(signal.SIGINT)
    assert running.event("stopped")["handed_back"] == 1
    code, errors = running.end()
    assert code == 130
    assert "handlers did not end within the grace: forebay-worker-" in errors
    assert (job.status, job.job().attempt) == ("queued", 0)


def test_the_grace_ends(worker: Started, file: Dispatcher) -> None:
    job = file.push("hang")
    running = worker("app:d", "--json", "--grace", "10ms")
    running.until("hanging\n")
    running.process.send_signal(signal.SIGTERM)
    assert running.event("stopping")["grace"] == "0.01s"
    assert running.event("stopped")["handed_back"] == 1
    code, errors = running.end()
    assert (code, "did not end within the grace" in errors, job.status) == (0, True, "queued")


def test_lines_for_a_log(worker: Started, file: Dispatcher) -> None:
    job = file.push("double", 1)
    running = worker("app:d", "--interval", "10ms", "--grace", "5s")
    at = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ forebay worker: "
    running.until(
        rf"^{at}started app:d on sqlite:jobs.db: 2 threads, grace 5s; it handles double, hold, tell"
    )
    job.result(LIMIT)
    running.until(rf"\n{at}(running 1, )?done 1")
    running.process.send_signal(signal.SIGTERM)
    running.until(rf"\n{at}stopping\n")
    assert "\x1b" not in running.seen
    running.until(rf"{at}stopped: 1 done, 0 failed\n$")
    assert running.end() == (0, "")


def test_quiet_is_silent(worker: Started, file: Dispatcher) -> None:
    job = file.push("double", 1)
    running = worker("app:d", "--quiet", "--interval", "10ms")
    job.result(LIMIT)
    running.process.send_signal(signal.SIGTERM)
    assert running.end() == (0, "")
    with pytest.raises(AssertionError, match="but at last ''"):
        running.until("anything")


def test_it_works_on_when_nobody_reads(worker: Started, file: Dispatcher) -> None:
    running = worker("app:d", "--json", "--interval", "10ms")
    running.event("counts")
    running.hush()
    # It has told its counts in vain when these have ended.
    for n in range(3):
        assert file.push("double", n).result(LIMIT) == 2 * n
    running.process.send_signal(signal.SIGTERM)
    assert running.end() == (0, "")


def test_a_person_sees_a_line_that_changes(worker: Started, file: Dispatcher, app: Path) -> None:
    running = worker("app:d", "--interval", "10ms", terminal=True)
    running.until(r"\x1b\[36mforebay \S+  app:d  sqlite:jobs.db\x1b\[0m \(disk\)\n")
    running.until(r"  2 threads, grace 10m; Ctrl-C stops, a second one at once")
    running.until(r"\n  hold    \x1b\[2mmax_attempts=3\x1b\[0m\n")
    running.until(r"running \x1b\[2m-\x1b\[0m  waiting .*  done .*  failed .*  jobs/s .*  oldest wait .*")
    file.push("hold")
    for _ in range(3):
        file.push("hold")
    running.until(r"\r\x1b\[Krunning \x1b\[36m2\x1b\[0m  waiting 2  .*  oldest wait [\d.]+m?s")
    for _ in range(4):
        opened(app)
    running.until(r"done \x1b\[32m4\x1b\[0m")
    # Its terminal is read while it works: it would not go on if that were full.
    file.push("tell", "hello")
    running.until(r"\r\x1b\[Khello\n")
    running.until(r"done \x1b\[32m5\x1b\[0m")
    running.process.send_signal(signal.SIGINT)
    running.until(r"stopping\n")
    running.until(r"stopped: 5 done, 0 failed\n")
    assert running.end()[0] == 0


def test_several_print_above_the_line(worker: Started, file: Dispatcher) -> None:
    running = worker("app:d", "--interval", "10ms", "--processes", "2", terminal=True)
    running.until(r"2 processes with 2 threads, grace 10m")
    running.until(r"oldest wait")
    file.push("tell", "hello")
    running.until(r"\r\x1b\[Khello\n")
    running.until(r"done \x1b\[32m1\x1b\[0m")
    running.process.send_signal(signal.SIGINT)
    running.until(r"stopped: 1 done, 0 failed\n")
    assert running.end()[0] == 0


def test_no_color_and_a_dumb_terminal(worker: Started) -> None:
    plain = worker("app:d", "--interval", "10ms", terminal=True, NO_COLOR="1")
    plain.until(r"\r\x1b\[Krunning -  waiting -  done -  failed -  jobs/s -  oldest wait -")
    assert "\x1b[3" not in plain.seen
    dumb = worker("app:d", "--interval", "10ms", terminal=True, TERM="dumb")
    dumb.until("Z forebay worker: idle\n")
    assert "\x1b" not in dumb.seen
    for each in (plain, dumb):
        each.process.send_signal(signal.SIGTERM)
        each.until("stopped: 0 done")
        assert each.end()[0] == 0


def test_a_process_that_is_killed_loses_nothing(worker: Started, file: Dispatcher, app: Path) -> None:
    held, job = file.push("hold"), None
    running = worker("app:d", "--json", "--interval", "10ms", "--processes", "2")
    killed = int(running.until(r"holding (\d+)\n").group(1))
    assert killed != running.process.pid
    os.kill(killed, signal.SIGKILL)
    told = running.event("note")
    assert re.fullmatch(r"process \d was ended by SIGKILL; a new one starts in 0.1s", told["text"])
    assert running.event("note")["pid"] != killed
    # Its lease ends, and the job begins once more.
    assert int(running.until(r"holding (\d+)\n").group(1)) != killed
    opened(app)
    assert held.result(LIMIT) == 2
    job = file.push("double", 1)
    assert job.result(LIMIT) == 2
    running.process.send_signal(signal.SIGTERM)
    assert running.event("stopped")["done"] == 2
    assert running.end() == (0, "")


def test_the_processes_end_with_their_parent(worker: Started, file: Dispatcher, app: Path) -> None:
    jobs = [file.push("hold") for _ in range(3)]
    running = worker("app:d", "--json", "--processes", "2", "--threads", "2")
    children = {int(running.until(r"holding (\d+)\n").group(1)) for _ in jobs}
    assert len(children) == 2
    ends = [os.pidfd_open(child) for child in children]
    running.process.kill()
    # They stop as they do after a SIGTERM: what runs may end.
    for _ in jobs:
        opened(app)
    for end in ends:
        assert select.select([end], [], [], LIMIT)[0], "a child outlives its parent"
        os.close(end)
    assert [job.result(LIMIT) for job in jobs] == [1, 1, 1]


def test_the_wait_of_the_oldest_is_told_from_counts() -> None:
    def counts(claimed: int, waiting: int) -> Totals:
        return Totals(**(ZERO | {"claimed": claimed, "waiting": waiting}))

    waits = Waits(counts(0, 0), 0)
    for at, claimed, waiting, oldest in (
        (1, 0, 5, 0),  # Five have come since the last look.
        (2, 0, 8, 1),
        (3, 4, 4, 2),  # The fifth is next, which has been there since the first look.
        (4, 5, 3, 2),  # The sixth came with the second.
        (5, 5, 3, 3),
        (6, 8, 0, 0),
        (7, 8, 1, 0),
        (9, 8, 1, 2),
        (10, 8, 0, 0),  # It was cancelled.
        (11, 8, 2, 0),
    ):
        assert waits.oldest(counts(claimed, waiting), at) == oldest, at
    waits = Waits(counts(0, 1), 0)
    for at in range(1, 10_000):
        assert waits.oldest(counts(0, 1 + at), at) == at
    assert len(waits._ready) < 600, "what is remembered is bounded"


def test_what_has_ended_is_counted_from_the_first_look() -> None:
    looks = Looks(Totals(**(ZERO | {"done": 100, "failed": 7})))
    took = looks.take(Totals(**(ZERO | {"done": 130, "failed": 8, "running": 2})))
    assert (took["done"], took["failed"], took["running"]) == (30, 1, 2)


@pytest.mark.parametrize("words", [(), ("--processes", "2")], ids=["alone", "several"])
def test_only_these_queues_are_served(worker: Started, file: Dispatcher, words: tuple[str, ...]) -> None:
    other = file.push("double", 1, queue="c")
    running = worker("app:d", "--json", "--queues", "a,b", *words)
    assert running.event("started")["queues"] == ["a", "b"]
    for queue in ("a", "b"):
        assert file.push("double", 2, queue=queue).result(LIMIT) == 4
    running.process.send_signal(signal.SIGTERM)
    assert running.event("stopped")["done"] == 2
    assert running.end() == (0, "")
    assert other.status == "queued"


def test_queues_that_make_no_sense_are_refused(worker: Started, app: Path) -> None:
    code, errors = worker("app:d", "--queues", "").end()
    assert (code, "queue name is empty" in errors) == (2, True), errors
    (app / "said.py").write_text("from app import d\nd.serve(['a'])\n")
    code, errors = worker("said", "--queues", "b").end()
    assert (code, "say it once" in errors) == (2, True), errors


def rewrite(file: Path, text: str) -> None:
    """Changes a file of the program in one go: what is half written is loaded as well."""
    file.with_suffix(".new").write_text(text)
    file.with_suffix(".new").replace(file)


CHANGES = """
import forebay
import part
d = forebay.Dispatcher({url})
@d.handler(max_attempts=1)
def answer(_):
    return part.ANSWER
"""


@pytest.mark.parametrize("words", [(), ("--processes", "2")], ids=["alone", "several"])
def test_a_change_of_the_program_starts_it_again(
    worker: Started, file: Dispatcher, app: Path, words: tuple[str, ...]
) -> None:
    # Another length each time: within a second Python takes a file of the same length for the same.
    rewrite(app / "part.py", "ANSWER = 1\n")
    (app / "app.py").write_text(CHANGES.format(url="'sqlite:jobs.db', shared=True"))
    running = worker("app:d", "--json", "--reload", *words)
    running.event("started")
    assert file.push("answer").result(LIMIT) == 1
    rewrite(app / "part.py", "ANSWER = 22\n")
    told = running.event("note")
    assert (told["text"], told["file"]) == ("part.py has changed; starting again", str(app / "part.py"))
    assert running.event("note")["text"].startswith("loaded again, by ")
    assert file.push("answer").result(LIMIT) == 22
    running.process.send_signal(signal.SIGTERM)
    running.event("stopped")
    assert running.end() == (0, "")


def test_what_cannot_be_loaded_waits_for_the_next_change(worker: Started, app: Path) -> None:
    text = CHANGES.format(url="") + "assert part.ANSWER != 333\n"
    (app / "app.py").write_text(text + "d.push('answer')\n")
    running = worker("app:d", "--json", "--reload", "--interval", "10ms")
    assert running.event("note")["text"] == "waiting for the program to change"
    # It is not there yet, and nobody has loaded it.
    rewrite(app / "part.py", "ANSWER = 1\n")
    assert running.event("note")["file"] == str(app / "part.py")
    running.event("started")
    running.until(r'"counts", .*"done": 1')
    rewrite(app / "part.py", "ANSWER = 333\n")
    assert running.event("note")["file"] == str(app / "part.py")
    assert running.event("note")["text"] == "waiting for the program to change"
    rewrite(app / "part.py", "ANSWER =\n")
    assert running.event("note")["file"] == str(app / "part.py")
    assert running.event("note")["text"] == "waiting for the program to change"
    rewrite(app / "part.py", "ANSWER = 4444\n")
    running.event("note")
    assert running.event("note")["text"].startswith("loaded again, by ")
    running.process.send_signal(signal.SIGINT)
    code, errors = running.end()
    assert code == 0
    for error in ("ModuleNotFoundError: No module named 'part'", "AssertionError", "SyntaxError"):
        assert errors.count(error) == 1


def test_a_wrong_name_is_not_waited_for(worker: Started) -> None:
    assert worker("app:mak", "--reload").end() == (2, "forebay: app has no 'mak'; did you mean make?\n")
