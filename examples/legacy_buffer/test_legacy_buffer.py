"""The buffer in front of a slow writer, in Python and in C: overloaded, killed, deployed."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from forebay import Dispatcher

HERE = Path(__file__).parent
LIMIT = 60
LINE = re.compile(r"(\w+): (\d+) accepted = (\d+) delivered \+ (\d+) shed \+ (\d+) waiting")


class Books(NamedTuple):
    """What a program says of a queue in the end."""

    accepted: int
    delivered: int
    shed: int
    waiting: int


@pytest.fixture(scope="module", params=["python", "c"])
def program(request: pytest.FixtureRequest) -> list[str]:
    """The command that starts it."""
    if request.param == "python":
        return [sys.executable, str(HERE / "legacy_buffer.py")]
    build: Callable[[Path], Path] = request.getfixturevalue("build")
    return [str(build(HERE / "legacy_buffer.c"))]


class Running:
    """A program that runs, and what it has answered so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process, self.requests, self.answers = process, process.stdin, process.stdout
        self.accepted: dict[str, str] = {}
        """Names of requests by the ids that were given to them."""
        self.refused: list[str] = []
        self.books: dict[str, Books] = {}

    def ask(self, *requests: str) -> None:
        for request in requests:
            print(request, file=self.requests, flush=True)

    def hear(self, line: str) -> None:
        words = line.split()
        if told := LINE.fullmatch(line.strip()):
            queue, *counts = told.groups()
            self.books[queue] = Books(*map(int, counts))
        elif words[0] == "202":
            kind, number, id = words[1:]
            self.accepted[id] = f"{kind} {number}"
        else:
            assert words[0] == "429", line
            self.refused.append(" ".join(words[1:]))

    def wait(self, answers: int) -> None:
        """Hears until there are so many answers in all."""
        while len(self.accepted) + len(self.refused) < answers:
            self.hear(self.answers.readline())

    def end(self, how: signal.Signals | None) -> None:
        """Ends it, by a signal or by the end of its input, and hears what it still says."""
        if how is None:
            self.requests.close()
        else:
            self.process.send_signal(how)
        for line in self.answers:
            self.hear(line)
        assert self.process.wait(LIMIT) == (-how if how == signal.SIGKILL else 0)


class Place:
    """The files of one test, and what programs accepted on them."""

    def __init__(self, program: list[str], folder: Path) -> None:
        self.program, self.file, self.record = program, folder / "jobs.db", folder / "written.log"
        self.accepted: dict[str, str] = {}

    @contextmanager
    def start(self, record: Path | None = None) -> Iterator[Running]:
        pipe = subprocess.PIPE
        command = [*self.program, str(self.file), str(record or self.record)]
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
            try:
                running = Running(process)
                yield running
                self.accepted |= running.accepted
            finally:
                process.kill()

    def finish(self) -> Running:
        """Lets one more process finish what there is."""
        with self.start() as last:
            last.end(None)
        return last

    def written(self) -> list[tuple[int, str, str]]:
        """What the gateway got: from which process, and which request."""
        lines = self.record.read_text().splitlines() if self.record.exists() else []
        return [(int(pid), id, request) for pid, id, request in (line.split(" ", 2) for line in lines)]

    def by_process(self, running: Running, queue: str) -> int:
        """How much the gateway got of a queue from one process."""
        mine = [request for pid, _, request in self.written() if pid == running.process.pid]
        return sum((request[:6] == "metric") == (queue == "metrics") for request in mine)

    def shed(self) -> set[str]:
        """The ids of what was shed, as the file has them."""
        with Dispatcher(self.file) as d:
            return {str(job.id) for job in d.list(status="shed", limit=1000).jobs}


class Jam:
    """A record that takes nothing until it is let go: a full pipe. Then it is that of the place."""

    def __init__(self, place: Place) -> None:
        self.record, self._into = place.record.with_suffix(".pipe"), place.record
        os.mkfifo(self.record)
        self._filled = os.open(self.record, os.O_RDWR)
        os.write(self._filled, b"\n" * fcntl.fcntl(self._filled, fcntl.F_SETPIPE_SZ, 4096))
        self._reader = threading.Thread(target=self._read)

    def let_go(self) -> None:
        self._reader.start()

    def _read(self) -> None:
        with self.record.open("rb") as source:
            os.close(self._filled)
            self._into.write_bytes(source.read().lstrip(b"\n"))

    def wait(self) -> None:
        """Until whoever wrote has ended."""
        self._reader.join(LIMIT)
        assert not self._reader.is_alive()


@pytest.fixture
def place(program: list[str], tmp_path: Path) -> Place:
    return Place(program, tmp_path)


def check_books(place: Place, running: Running, carried: dict[str, int]) -> None:
    """What a process says in the end, against what it answered and against what the gateway got."""
    for queue, books in running.books.items():
        assert books.accepted == books.delivered + books.shed + books.waiting, (queue, books)
        kind = ("metric",) if queue == "metrics" else ("order", "bulk")
        answered = sum(name.split()[0] in kind for name in running.accepted.values())
        assert books.accepted == answered + carried[queue], (queue, books)
        assert books.delivered == place.by_process(running, queue), (queue, books)


def mixed(numbers: range) -> list[str]:
    return [f"{kind} {n}" for n in numbers for kind in ("order", "metric", "order", "bulk")]


def test_callers_hear_429_while_orders_spill_and_old_metrics_go(place: Place) -> None:
    jam = Jam(place)
    with place.start(jam.record) as front:
        front.ask(*(f"order {n}" for n in range(100)), *(f"bulk {n}" for n in range(10)))
        front.wait(110)
        assert front.refused == [f"bulk {n}" for n in range(10)], "the gateway is behind"
        front.ask(*(f"metric {n}" for n in range(100)))
        front.wait(210)
        jam.let_go()
        front.end(None)
    jam.wait()
    assert front.books["orders"] == Books(100, 100, 0, 0), "more than memory was to hold, and none is lost"
    metrics = front.books["metrics"]
    assert metrics.shed > 0 == metrics.waiting
    check_books(place, front, Counter())
    with place.start() as front:
        front.ask("bulk 1")
        front.wait(1)
        assert front.refused == [], "nothing waits any more"
        front.end(None)


def test_a_deploy_loses_nothing(place: Place) -> None:
    carried, stops = Counter[str](), 0
    # When a stop comes is a matter of luck: of those that come in the middle there are to be three.
    for round in range(50):
        with place.start() as front:
            requests = mixed(range(round * 15, round * 15 + 15))
            front.ask(*requests)
            front.wait(len(requests))
            front.end(signal.SIGTERM)
        check_books(place, front, carried)
        carried = Counter({queue: books.waiting for queue, books in front.books.items()})
        stops += carried["orders"] > 0
        if stops == 3:
            break
    assert stops == 3, "it was stopped in the middle"
    last = place.finish()
    check_books(place, last, carried)
    assert all(books.waiting == 0 for books in last.books.values())
    written = [id for _, id, _ in place.written()]
    assert len(written) == len(set(written)), "nothing was written twice"
    assert set(written) | place.shed() == set(place.accepted)
    assert not set(written) & place.shed()


def test_a_kill_loses_nothing_that_was_accepted(place: Place) -> None:
    # Two deaths: a job that is there at three of them fails, because it may be what the processes die of.
    for round in range(2):
        with place.start() as front:
            front.ask(*mixed(range(round * 30, round * 30 + 30)))
            front.wait(60)
            front.end(signal.SIGKILL)
    last = place.finish()
    for books in last.books.values():
        assert books.accepted == books.delivered + books.shed, books
    requests = {id: request for _, id, request in place.written()}
    shed = place.shed()
    for id, name in place.accepted.items():
        assert id in requests or id in shed, f"{name} is lost"
        assert requests.get(id, name) == name
        assert name.startswith("metric") or id in requests, f"{name} must not be shed"
    # Written again is only what was at the gateway at a death, or ended too shortly before to be in the file.
    again = Counter(id for _, id, _ in place.written())
    assert max(again.values()) <= 3
    in_last = [id for pid, id, _ in place.written() if pid == last.process.pid]
    assert len(in_last) == len(set(in_last))
