"""The receiver, over real sockets and in a process of its own, and its rules as plain functions."""

from __future__ import annotations

import collections
import hashlib
import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import receiver
from receiver import Fate, Faults, Rejected, file_path, parse_head

DEADLINE_S = 60.0
NO_FAULTS = ("--refuse-for=0", "--unavailable=0", "--reset=0", "--lost-reply=0", "--stall=0")


class Running:
    """A receiver in another process."""

    def __init__(self, *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, receiver.__file__, *options], stdout=subprocess.PIPE, text=True
        )
        # Reading a line has no timeout: a receiver that hangs is killed instead, which ends the reading.
        self._deadline = threading.Timer(DEADLINE_S, self.process.kill)
        self._deadline.start()
        self.port = int(self.line().removeprefix("port "))

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def listening(self) -> Running:
        assert self.line() == "listening"
        return self

    def connect(self, timeout: float = DEADLINE_S) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def put(self, path: str, body: bytes, **headers: str) -> tuple[int, dict[str, Any]]:
        connection = self.connect()
        try:
            names = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request("PUT", f"/files/{urllib.parse.quote(path, safe='')}", body, names)
            with connection.getresponse() as response:
                return response.status, json.load(response)
        finally:
            connection.close()

    def raw(self, request: bytes) -> bytes:
        """Sends bytes as they are and gives everything that comes back until the connection is closed."""
        with socket.create_connection(("127.0.0.1", self.port), DEADLINE_S) as sock:
            sock.sendall(request)
            return b"".join(iter(lambda: sock.recv(65536), b""))

    def report(self) -> dict[str, Any]:
        connection = self.connect()
        try:
            connection.request("GET", "/report")
            with connection.getresponse() as response:
                assert response.status == 200
                report: dict[str, Any] = json.load(response)
                return report
        finally:
            connection.close()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> str:
        """Asks the receiver to end and gives what it still had to say."""
        self.process.send_signal(number)
        out, _ = self.process.communicate(timeout=DEADLINE_S)
        assert self.process.returncode == 0
        return out

    def end(self) -> None:
        self._deadline.cancel()
        self.process.kill()
        self.process.communicate()


Start = Callable[..., Running]


@pytest.fixture
def start() -> Iterator[Start]:
    running: list[Running] = []

    def run(*options: str) -> Running:
        running.append(Running(*options))
        return running[-1]

    yield run
    for one in running:
        one.end()


# ---- over real sockets --------------------------------------------------------------------------------


def test_refuses_until_it_listens(start: Start) -> None:
    with pytest.raises(ConnectionRefusedError):
        start(*NO_FAULTS, "--refuse-for=3600").put("a.py", b"x")
    assert start(*NO_FAULTS, "--refuse-for=0.05").listening().put("a.py", b"x")[0] == 201


def test_the_port_is_its_own_while_it_refuses(start: Start) -> None:
    receiver = start("--refuse-for=3600")
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", receiver.port))


def test_a_delivery_is_recorded_with_its_digest(start: Start) -> None:
    receiver = start(*NO_FAULTS).listening()
    body = bytes(range(256)) * 4096
    sha256 = hashlib.sha256(body).hexdigest()
    status, answer = receiver.put("email/mime/ä b.py", body, X_Job_Id="j1", X_Sha256=sha256)
    assert (status, answer) == (201, {"sha256": sha256})
    assert receiver.report()["files"] == {
        "email/mime/ä b.py": {
            "sha256": sha256,
            "size": len(body),
            "deliveries": 1,
            "changed": 0,
            "jobs": ["j1"],
        }
    }


def test_an_empty_file_is_a_file(start: Start) -> None:
    receiver = start(*NO_FAULTS).listening()
    assert receiver.put("__init__.py", b"")[0] == 201
    assert receiver.report()["files"]["__init__.py"]["sha256"] == hashlib.sha256(b"").hexdigest()


def test_duplicates_and_changes_are_counted(start: Start) -> None:
    receiver = start(*NO_FAULTS).listening()
    for body, job in ((b"one", "j1"), (b"one", "j1"), (b"two", "j2")):
        assert receiver.put("a.py", body, X_Job_Id=job)[0] == 201
    report = receiver.report()
    assert report["files"]["a.py"] == {
        "sha256": hashlib.sha256(b"two").hexdigest(),
        "size": 3,
        "deliveries": 3,
        "changed": 1,
        "jobs": ["j1", "j2"],
    }
    assert report["counts"]["duplicates"] == 2


def test_one_connection_serves_many_requests(start: Start) -> None:
    receiver = start(*NO_FAULTS, "--unavailable=0.5").listening()
    connection = receiver.connect()
    statuses = collections.Counter[int]()
    for n in range(50):
        connection.request("PUT", f"/files/{n}.py", b"x" * n)
        with connection.getresponse() as response:
            response.read()
            statuses[response.status] += 1
    connection.close()
    assert set(statuses) == {201, 503}
    counts = receiver.report()["counts"]
    assert counts["delivered"] == statuses[201]
    assert counts["unavailable"] == statuses[503]
    # This one and that of the report.
    assert counts["connections"] == 2


def test_unavailable_names_a_time_and_records_nothing(start: Start) -> None:
    receiver = start(*NO_FAULTS, "--unavailable=1", "--retry-after=3").listening()
    connection = receiver.connect()
    connection.request("PUT", "/files/a.py", b"x" * 100_000)
    with connection.getresponse() as response:
        assert (response.status, response.headers["Retry-After"]) == (503, "3")
    connection.close()
    report = receiver.report()
    assert report["files"] == {}
    assert report["counts"]["unavailable"] == 1


def test_a_reset_in_the_body_is_no_delivery(start: Start) -> None:
    receiver = start(*NO_FAULTS, "--reset=1").listening()
    with pytest.raises(ConnectionError):
        receiver.put("a.py", b"x" * 1_000_000)
    report = receiver.report()
    assert report["files"] == {}
    assert report["counts"]["reset"] == 1


def test_a_lost_reply_is_a_delivery(start: Start) -> None:
    receiver = start(*NO_FAULTS, "--lost-reply=1").listening()
    for _ in range(2):
        with pytest.raises(ConnectionError):
            receiver.put("a.py", b"x")
    report = receiver.report()
    assert report["files"]["a.py"]["deliveries"] == 2
    assert report["counts"]["lost_reply"] == 2
    assert report["counts"]["duplicates"] == 1


def test_a_stall_outlasts_the_sender_and_is_no_delivery(start: Start) -> None:
    receiver = start(*NO_FAULTS, "--stall=1", "--stall-for=3600").listening()
    connection = receiver.connect(timeout=0.2)
    connection.request("PUT", "/files/a.py", b"x")
    with pytest.raises(TimeoutError):
        connection.getresponse()
    connection.close()
    # It may not have come to the request before the sender gave up.
    while receiver.report()["counts"]["requests"] == 0:
        pass
    report = receiver.report()
    assert report["files"] == {}
    assert report["counts"]["stalled"] == 1
    assert report["counts"]["broken_off"] == 0


def test_a_stall_ends_in_a_reset(start: Start) -> None:
    receiver = start(*NO_FAULTS, "--stall=1", "--stall-for=0.05").listening()
    with pytest.raises(ConnectionError):
        receiver.put("a.py", b"x")


def test_a_body_that_breaks_off_is_no_delivery(start: Start) -> None:
    receiver = start(*NO_FAULTS).listening()
    with socket.create_connection(("127.0.0.1", receiver.port), DEADLINE_S) as sock:
        sock.sendall(b"PUT /files/a.py HTTP/1.1\r\nContent-Length: 10\r\n\r\nhalf")
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b""
    report = receiver.report()
    assert report["files"] == {}
    assert report["counts"]["broken_off"] == 1


def test_a_wrong_digest_is_refused(start: Start) -> None:
    receiver = start(*NO_FAULTS).listening()
    status, answer = receiver.put("a.py", b"x", X_Sha256="0" * 64)
    assert status == 422
    assert hashlib.sha256(b"x").hexdigest() in answer["error"]
    assert receiver.report()["files"] == {}


def test_expect_continue_is_answered(start: Start) -> None:
    receiver = start(*NO_FAULTS).listening()
    with socket.create_connection(("127.0.0.1", receiver.port), DEADLINE_S) as sock:
        sock.sendall(b"PUT /files/a HTTP/1.1\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n")
        assert sock.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"x")
        assert sock.recv(65536).startswith(b"HTTP/1.1 201 Created\r\n")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"hello\r\n\r\n", 400),
        (b"PUT /files/a HTTP/1.0\r\n\r\n", 400),
        (b"PUT /files/a HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"PUT /files/a HTTP/1.1\r\nContent-Length: +1\r\n\r\nx", 400),
        (b"PUT /files/a HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", 400),
        (b"PUT /files/%FF HTTP/1.1\r\nContent-Length: 1\r\n\r\nx", 400),
        (b"PUT /files/a HTTP/1.1\r\nX-Filler: " + b"x" * 100_000 + b"\r\n\r\n", 400),
        (b"PUT /other HTTP/1.1\r\nContent-Length: 1\r\n\r\nx", 404),
        (b"GET /files/a HTTP/1.1\r\n\r\n", 405),
        (b"PUT /files/a HTTP/1.1\r\n\r\n", 411),
        (b"PUT /files/a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
        (b"PUT /files/a HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", 413),
    ],
)
def test_a_wrong_request_gets_its_status(start: Start, request_bytes: bytes, status: int) -> None:
    receiver = start(*NO_FAULTS).listening()
    try:
        answer = receiver.raw(request_bytes)
    except (ConnectionResetError, BrokenPipeError):
        # What was still unread when the receiver closed: a sender may then see the reset first.
        answer = f"HTTP/1.1 {status} ".encode()
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    report = receiver.report()
    assert report["files"] == {}
    assert report["counts"]["rejected"] == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_a_report(start: Start, number: signal.Signals) -> None:
    receiver = start(*NO_FAULTS).listening()
    receiver.put("a.py", b"x")
    # An open connection does not hold it up.
    with socket.create_connection(("127.0.0.1", receiver.port), DEADLINE_S):
        report = json.loads(receiver.stop(number))
    assert report["files"]["a.py"]["deliveries"] == 1
    assert report["faults"]["seed"] == 1


def test_a_signal_ends_it_while_it_refuses(start: Start) -> None:
    assert json.loads(start("--refuse-for=3600").stop())["files"] == {}


def test_the_report_goes_to_a_file(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    receiver = start(*NO_FAULTS, f"--report={file}").listening()
    receiver.put("a.py", b"x")
    assert receiver.stop() == ""
    assert json.loads(file.read_text())["counts"]["delivered"] == 1
    assert list(tmp_path.iterdir()) == [file]


def test_a_named_port_can_be_used_again_at_once(start: Start) -> None:
    first = start(*NO_FAULTS).listening()
    first.put("a.py", b"x")
    first.stop()
    again = start(*NO_FAULTS, f"--port={first.port}").listening()
    assert again.put("a.py", b"x")[0] == 201


def test_the_same_seed_gives_the_same_faults(start: Start) -> None:
    def statuses() -> list[int]:
        receiver = start(*NO_FAULTS, "--unavailable=0.5", "--seed=7").listening()
        return [receiver.put(f"{n}.py", b"x")[0] for n in range(30)]

    first = statuses()
    assert first == statuses()
    assert set(first) == {201, 503}


@pytest.mark.parametrize(
    "option", ["--unavailable=1.5", "--reset=-1", "--refuse-for=-1", "--stall-for=inf", "--retry-after=0.5"]
)
def test_a_wrong_option_is_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        receiver.parse_arguments([option])
    assert option.split("=")[0] in capsys.readouterr().err


def test_shares_of_more_than_one_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        receiver.parse_arguments(["--unavailable=0.6", "--stall=0.6"])
    assert "add up to more than 1" in capsys.readouterr().err


# ---- the rules as functions ---------------------------------------------------------------------------


def test_each_fate_gets_its_share() -> None:
    faults = Faults()
    draws = 20_000
    counts = collections.Counter(faults.fate(f"{n}.py", n % 3) for n in range(draws))
    assert counts.total() == draws
    for fate, share in (
        (Fate.UNAVAILABLE, faults.unavailable),
        (Fate.RESET, faults.reset),
        (Fate.LOST_REPLY, faults.lost_reply),
        (Fate.STALLED, faults.stall),
    ):
        # The draws are seeded: this either always holds or never.
        assert counts[fate] / draws == pytest.approx(share, rel=0.15)


def test_a_path_does_not_meet_one_fate_for_ever() -> None:
    faults = Faults(unavailable=0.5)
    for path in ("a.py", "b.py", "c.py"):
        assert Fate.DELIVERED in {faults.fate(path, asked) for asked in range(64)}


def test_a_head_is_parsed() -> None:
    head = parse_head(b"PUT /files/a HTTP/1.1\r\nContent-Length: 12\r\nX-Job-Id:  j1 \r\n\r\n")
    assert (head.method, head.target, head.length) == ("PUT", "/files/a", 12)
    assert head.headers["x-job-id"] == "j1"


@pytest.mark.parametrize(
    ("target", "path"),
    [("/files/a.py", "a.py"), ("/files/a%2Fb%20c.py", "a/b c.py"), ("/files/a/b.py", "a/b.py")],
)
def test_a_target_names_a_file(target: str, path: str) -> None:
    assert file_path(target) == path


@pytest.mark.parametrize("target", ["/files/", "/files", "/", "*"])
def test_a_target_that_names_no_file(target: str) -> None:
    with pytest.raises(Rejected):
        file_path(target)
