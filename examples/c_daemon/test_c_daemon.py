"""The daemon with an event loop: clients that hear of their jobs, a deploy and kills under load."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

HERE = Path(__file__).parent
LIMIT = 60
CLIENTS = 4
WRITTEN = re.compile(r"([0-9a-f-]{36}) (.*)")


@pytest.fixture(scope="module")
def program(build: Callable[[Path], Path]) -> Path:
    return build(HERE / "daemon.c")


class Client:
    """One connection, and what it was told."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(LIMIT)
        self.socket.connect(str(path))
        self.lines = self.socket.makefile("r", encoding="utf-8")
        self.pushed: list[str] = []
        self.accepted: dict[str, str] = {}
        """Texts by the ids of their jobs."""
        self.ended: dict[str, str] = {}
        """What became of jobs, by their ids: a state and a result."""

    def ask(self, *lines: str) -> None:
        self.socket.sendall("".join(f"{line}\n" for line in lines).encode())

    def push(self, *texts: str) -> None:
        self.pushed += texts
        self.ask(*(f"push {text}" for text in texts))

    def hear(self) -> str:
        """The next line, noted; nothing once the daemon has gone. Pushes are accepted in their order."""
        try:
            line, whole, _ = self.lines.readline().partition("\n")
        except ConnectionResetError:
            return ""
        if not whole:
            # It went in the middle of what it had to say.
            return ""
        match line.split(" ", 2):
            case ["accepted", id]:
                self.accepted[id] = self.pushed[len(self.accepted)]
            case ["ended", id, outcome]:
                assert id not in self.ended, "an end is told once"
                self.ended[id] = outcome
        return line

    def hear_until(self, enough: Callable[[], bool]) -> bool:
        """Hears until it is so; false if the daemon went first."""
        while not enough():
            if not self.hear():
                return False
        return True

    def answer(self, question: str) -> str:
        self.ask(question)
        return self.hear()

    def close(self) -> None:
        self.lines.close()
        self.socket.close()


class Place:
    """The files of one test."""

    def __init__(self, program: Path, folder: Path) -> None:
        self.program, self.folder, self.socket = program, folder, folder / "socket"

    def command(self) -> list[str]:
        url = f"sqlite:{self.folder / 'jobs.db'}?concurrency=64"
        return [str(self.program), url, str(self.folder / "written.log"), str(self.socket)]

    @contextmanager
    def start(self) -> Iterator[subprocess.Popen[str]]:
        """A daemon that is ready; one that still runs in the end is stopped, and ends well."""
        with subprocess.Popen(self.command(), stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
                yield process
                if process.poll() is None:
                    process.terminate()
                assert process.wait(LIMIT) in (0, -signal.SIGKILL)
            finally:
                process.kill()

    @contextmanager
    def client(self) -> Iterator[Client]:
        client = Client(self.socket)
        try:
            yield client
        finally:
            client.close()

    def written(self) -> list[tuple[str, str]]:
        """What was done, in order: which job, and what it wrote."""
        path = self.folder / "written.log"
        found = WRITTEN.findall(path.read_text()) if path.exists() else []
        return [(id, text) for id, text in found]

    def work_until(self, how: signal.Signals) -> dict[str, str]:
        """Has clients push all they can, and ends the daemon in the middle of it: all that was accepted."""
        with self.start() as process:
            clients = [Client(self.socket) for _ in range(CLIENTS)]
            busy = threading.Semaphore(0)
            threads = [threading.Thread(target=push_on, args=(c, n, busy)) for n, c in enumerate(clients)]
            for thread in threads:
                thread.start()
            for _ in range(10 * CLIENTS):
                assert busy.acquire(timeout=LIMIT)
            process.send_signal(how)
            for thread in threads:
                thread.join(LIMIT)
            assert process.wait(LIMIT) == (-how if how == signal.SIGKILL else 0)
        accepted: dict[str, str] = {}
        for client in clients:
            for id, outcome in client.ended.items():
                assert outcome == f"succeeded {client.accepted[id].upper()}"
            accepted |= client.accepted
            client.close()
        assert len(accepted) >= 100 * CLIENTS
        return accepted


def push_on(client: Client, number: int, busy: threading.Semaphore) -> None:
    """Pushes ten at a time, the next ten when these are accepted, until the daemon has gone."""
    going = True
    while going:
        first = len(client.pushed)
        try:
            client.push(*(f"client {number} text {n}" for n in range(first, first + 10)))
        except (BrokenPipeError, ConnectionResetError):
            client.hear_until(lambda: False)
            return
        going = client.hear_until(lambda: len(client.accepted) == len(client.pushed))
        busy.release()


def check_ends(client: Client, accepted: dict[str, str]) -> None:
    """Everything accepted ends well, in this process or before."""
    ids = list(accepted)
    for first in range(0, len(ids), 100):
        batch = ids[first : first + 100]
        client.ask(*(f"watch {id}" for id in batch))
        assert client.hear_until(lambda: all(id in client.ended for id in batch))  # noqa: B023
    for id, text in accepted.items():
        assert client.ended[id] == f"succeeded {text.upper()}"


@pytest.fixture
def place(program: Path, tmp_path: Path) -> Place:
    return Place(program, tmp_path)


def test_each_client_hears_of_its_own_jobs(place: Place) -> None:
    with place.start(), place.client() as one, place.client() as two:
        one.push(*(f"one {n}" for n in range(200)))
        two.push(*(f"two {n}" for n in range(200)))
        for client in (one, two):
            assert client.hear_until(lambda: len(client.ended) == 200)  # noqa: B023
            assert list(client.accepted.values()) == client.pushed
            assert client.ended == {id: f"succeeded {text.upper()}" for id, text in client.accepted.items()}
        done = [id for id, _ in place.written()]
        assert sorted(done) == sorted([*one.accepted, *two.accepted])


def test_a_client_asks_about_jobs(place: Place) -> None:
    with place.start(), place.client() as one, place.client() as two:
        one.push("hello")
        assert one.hear_until(lambda: len(one.ended) == 1)
        [id] = one.ended
        assert two.answer(f"state {id}") == f"state {id} succeeded"
        assert two.answer(f"watch {id}") == f"ended {id} succeeded HELLO"
        assert '"succeeded":1' in two.answer("stats")
        nobody = id[:-1] + ("0" if id[-1] != "0" else "1")
        assert two.answer(f"state {nobody}") == f"unknown {nobody}"
        assert two.answer(f"watch {nobody}") == f"unknown {nobody}"
        for what in ("", "push", "state it", "sing"):
            assert two.answer(what).startswith("what?")


def test_who_reads_late_hears_it_all(place: Place) -> None:
    with place.start(), place.client() as client:
        client.push("hello")
        assert client.hear_until(lambda: len(client.ended) == 1)
        # Questions that come at once, and more to say than the socket holds.
        many = 4096 // len("stats\n")
        assert 300_000 < many * len(client.answer("stats")) < 1_000_000
        client.ask(*["stats"] * many)
        answers = [client.hear() for _ in range(many)]
        assert all(answer.startswith("stats {") and answer.endswith("}") for answer in answers)


def test_who_does_not_read_holds_up_nobody(place: Place) -> None:
    with place.start(), place.client() as deaf, place.client() as other:
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            deaf.ask(*["stats"] * 200_000)
        other.push("hello")
        assert other.hear_until(lambda: "succeeded HELLO" in other.ended.values())


def test_who_hangs_up_has_its_jobs_done(place: Place) -> None:
    with place.start():
        with place.client() as one:
            one.push(*(f"text {n}" for n in range(50)))
            assert one.hear_until(lambda: len(one.accepted) == 50)
        with place.client() as two:
            check_ends(two, one.accepted)


def test_a_second_daemon_leaves_the_first_alone(place: Place) -> None:
    with place.start(), place.client() as client:
        second = subprocess.run(place.command(), capture_output=True, text=True, timeout=LIMIT, check=False)
        assert second.returncode == 1
        assert "FBY_E_ALREADY_OPEN" in second.stderr
        client.push("hello")
        assert client.hear_until(lambda: len(client.ended) == 1)
        with place.client() as another:
            assert another.answer("stats").startswith("stats")


def test_what_has_ended_before_a_stop_is_not_done_again(place: Place) -> None:
    for n in range(3):
        with place.start(), place.client() as client:
            client.push(f"text {n}")
            assert client.hear_until(lambda: len(client.ended) == 1)
    assert [text for _, text in place.written()] == ["TEXT 0", "TEXT 1", "TEXT 2"]


def test_a_deploy_under_load_loses_nothing_and_repeats_nothing(place: Place) -> None:
    accepted: dict[str, str] = {}
    for _ in range(2):
        accepted |= place.work_until(signal.SIGTERM)
        assert not place.socket.exists()
    with place.start(), place.client() as client:
        check_ends(client, accepted)
    times = Counter(id for id, _ in place.written())
    assert set(times.values()) == {1}
    assert set(times) >= set(accepted)


def test_kills_under_load_lose_nothing(place: Place) -> None:
    accepted: dict[str, str] = {}
    # Two deaths: a job that is there at three of them fails, because it may be what the processes die of.
    for _ in range(2):
        accepted |= place.work_until(signal.SIGKILL)
    before = len(place.written())
    with place.start(), place.client() as client:
        check_ends(client, accepted)
    written = place.written()
    texts = dict(written)
    assert all(texts[id] == text.upper() for id, text in accepted.items())
    # Written again is only what was out at a death, or ended too shortly before to be in the file.
    last = [id for id, _ in written[before:]]
    assert len(last) == len(set(last))
    assert max(Counter(id for id, _ in written).values()) <= 3
