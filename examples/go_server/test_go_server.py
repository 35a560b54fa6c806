"""The HTTP server: orders while it is deployed and killed."""

from __future__ import annotations

import http.client
import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
LIMIT = 60
ORDERS = 240
CUSTOMERS = 4


@pytest.fixture(scope="module")
def program(build_go: Callable[[Path], Path]) -> Path:
    return build_go(HERE)


class Shop:
    """A place for a server: a port, a file, a ledger. Processes come and go in it."""

    def __init__(self, program: Path, folder: Path) -> None:
        self.program, self.folder = program, folder
        # Bound, and never listened on: the port is nobody else's between two processes, who may listen on it.
        self.reserved = socket.socket()
        self.reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.reserved.bind(("127.0.0.1", 0))
        self.port = self.reserved.getsockname()[1]
        self.processes: list[subprocess.Popen[str]] = []

    @property
    def url(self) -> str:
        return f"sqlite:{self.folder / 'orders.db'}"

    def open(self) -> subprocess.Popen[str]:
        where = [
            "-url",
            self.url,
            "-listen",
            f"127.0.0.1:{self.port}",
            "-ledger",
            str(self.folder / "ledger"),
        ]
        process = subprocess.Popen(
            [self.program, *where], stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL
        )
        self.processes.append(process)
        return process

    def ask(self, method: str, path: str, body: str = "", key: str = "") -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT)
        try:
            connection.request(method, path, body, {"Idempotency-Key": key} if key else {})
            answer = connection.getresponse()
            return answer.status, answer.read().decode().strip()
        finally:
            connection.close()

    def order(self, key: str) -> str:
        """Orders until there is an answer, as a customer would; the id."""
        while True:
            try:
                status, text = self.ask("POST", "/orders", f'{{"customer": "{key}", "cents": 100}}', key)
            except (OSError, http.client.HTTPException):
                # It is being deployed. Nobody listens until the next one does: that is what to wait for.
                continue
            assert status == 202, text
            return text

    def charged(self) -> list[str]:
        return [line.split()[0] for line in (self.folder / "ledger").read_text().splitlines()]

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.communicate(timeout=LIMIT)
        self.reserved.close()


def ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline().startswith("listening on")


def customers(shop: Shop, halfway: Callable[[], None]) -> list[str]:
    """Several customers order at once; something happens when half of it is done. Returns the ids."""
    ids: list[str] = []
    half = threading.Event()

    def buy(who: int) -> None:
        for n in range(ORDERS // CUSTOMERS):
            ids.append(shop.order(f"{who}-{n}"))
            if len(ids) >= ORDERS // 2:
                half.set()

    threads = [threading.Thread(target=buy, args=(who,)) for who in range(CUSTOMERS)]
    for thread in threads:
        thread.start()
    assert half.wait(LIMIT)
    halfway()
    for thread in threads:
        thread.join(LIMIT)
        assert not thread.is_alive()
    return ids


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_no_order_is_lost_by_a_deploy_or_a_crash(program: Path, tmp_path: Path, how: signal.Signals) -> None:
    shop = Shop(program, tmp_path)
    try:
        first = shop.open()
        ready(first)

        def deploy() -> None:
            first.send_signal(how)
            if how == signal.SIGKILL:
                # What it had is let go piece by piece: the file, and then the port.
                first.wait(LIMIT)
            ready(shop.open())

        ids = customers(shop, deploy)
        assert first.wait(LIMIT) == (0 if how == signal.SIGTERM else -signal.SIGKILL)
        second = shop.processes[-1]
        for id in ids:
            while shop.ask("GET", f"/orders/{id}")[1] != "succeeded":
                pass
        second.terminate()
        assert second.wait(LIMIT) == 0
        assert len(set(ids)) == ORDERS, "one order for each key"
        assert set(shop.charged()) == set(ids), "and each of them is charged"
        if how == signal.SIGTERM:
            assert len(shop.charged()) == ORDERS, "once, unless the process was killed"
    finally:
        shop.close()


def test_bad_requests_are_told_so(program: Path, tmp_path: Path) -> None:
    shop = Shop(program, tmp_path)
    try:
        ready(shop.open())
        assert shop.ask("POST", "/orders", "{")[0] == 400
        assert shop.ask("POST", "/orders", '{"customer": "ada"}')[0] == 400
        assert shop.ask("GET", "/orders/nonsense")[0] == 400
        assert shop.ask("GET", "/orders/01939f3c-7b1e-7cc2-a5f0-6f1d2b3c4d5e")[0] == 404
        assert shop.ask("POST", "/orders", '{"customer": "ada", "cents": 1}', "k")[0] == 202
        assert shop.ask("POST", "/orders", '{"customer": "ada", "cents": 2}', "k")[0] == 409
        status, text = shop.ask("GET", "/metrics")
        assert status == 200
        assert "forebay_" in text
    finally:
        shop.close()
