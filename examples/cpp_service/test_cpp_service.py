"""The service in C++: posted to, with a receiver that fails, broken off, killed and deployed."""

from __future__ import annotations

import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import NamedTuple

import pytest

HERE = Path(__file__).parent
LIMIT = 60


class Answer(NamedTuple):
    """What the service says."""

    status: int
    text: str


class Service:
    """The service, while it runs."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.process, self.said = process, process.stdout
        word, port = self.said.readline().split()
        assert word == "listening"
        self.port = int(port)

    def ask(self, method: str, path: str, body: str = "", **headers: str) -> Answer:
        call = HTTPConnection("127.0.0.1", self.port, timeout=LIMIT)
        call.request(method, path, body.encode(), headers)
        answer = call.getresponse()
        return Answer(answer.status, answer.read().decode())

    def post(self, body: str, key: str = "") -> Answer:
        return self.ask("POST", "/hooks", body, **{"idempotency-key": key} if key else {})

    def receiver_is(self, mode: str) -> None:
        assert self.ask("PUT", "/receiver", mode).status == 200

    def end_of(self, id: str) -> str:
        """What became of a hook. Each question waits a second for it."""
        return self.until(lambda: self.ask("GET", f"/hooks/{id}"), lambda answer: answer.status == 200).text

    def until(self, ask: Callable[[], Answer], good: Callable[[Answer], bool]) -> Answer:
        end = time.monotonic() + LIMIT
        while not good(answer := ask()):
            assert time.monotonic() < end, answer
        return answer

    def end(self, how: signal.Signals) -> str:
        """Ends it, and gives its last words."""
        self.process.send_signal(how)
        words = self.said.read()
        assert self.process.wait(LIMIT) == (-how if how == signal.SIGKILL else 0)
        return words


@pytest.fixture(scope="module")
def program(build: Callable[[Path], Path]) -> Path:
    return build(HERE / "hooks.cpp")


class Place:
    """The files of one test."""

    def __init__(self, program: Path, folder: Path) -> None:
        self.program, self.file, self.log = program, folder / "jobs.db", folder / "received.log"

    @contextmanager
    def start(self) -> Iterator[Service]:
        command = [self.program, self.file, self.log]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                yield Service(process)
            finally:
                process.kill()

    def received(self) -> Counter[str]:
        """How often each hook came, by its id."""
        return Counter(line.split()[0] for line in self.log.read_text().splitlines())


@pytest.fixture
def place(program: Path, tmp_path: Path) -> Place:
    return Place(program, tmp_path)


def test_a_hook_is_delivered_once_however_often_it_is_posted(place: Place) -> None:
    with place.start() as service:
        first = service.post("shop.example paid 17", key="order-17")
        assert first.status == 202
        assert service.post("shop.example paid 17", key="order-17") == first
        assert service.post("shop.example paid 18", key="order-17").status == 409
        assert "delivered to shop.example" in service.end_of(first.text)
        assert service.post("nobody").status == 400
        assert service.ask("GET", "/hooks/no-id").status == 400
        assert service.ask("GET", "/hooks/01939f3c-7b1e-7cc2-a5f0-6f1d2b3c4d5e").status == 404
        assert service.ask("GET", "/").status == 404
        refused = service.post("shop.example nonsense")
        assert "refuses it with 422" in service.end_of(refused.text)
        assert "stopped: 0 handed back, 0 wait" in service.end(signal.SIGTERM)
    assert place.received() == {first.text: 1}


def test_a_receiver_that_is_down_is_left_alone(place: Place) -> None:
    with place.start() as service:
        service.receiver_is("down")
        ids = [service.post(f"shop.example paid {n}").text for n in range(20)]
        service.until(lambda: service.ask("GET", "/why"), lambda answer: "breaker" in answer.text)
        assert service.ask("GET", f"/hooks/{ids[-1]}").status == 202
        service.receiver_is("busy")
        service.receiver_is("up")
        for id in ids:
            assert "delivered" in service.end_of(id)
        service.end(signal.SIGTERM)
    assert place.received() == dict.fromkeys(ids, 1)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_deploy_loses_no_hook(place: Place, how: signal.Signals) -> None:
    with place.start() as service:
        service.receiver_is("down")
        ids = [service.post(f"shop.example paid {n}", key=str(n)).text for n in range(30)]
        words = service.end(how)
        assert how == signal.SIGKILL or "30 wait" in words
    with place.start() as service:
        # A caller who has not heard the answer asks the next process.
        assert service.post("shop.example paid 7", key="7").text == ids[7]
        for id in ids:
            assert "delivered" in service.end_of(id)
        assert "0 wait" in service.end(signal.SIGTERM)
    # Nothing was at the receiver when the first process ended, so nothing came twice.
    assert place.received() == dict.fromkeys(ids, 1)
