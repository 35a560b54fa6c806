"""The service under load: deployed anew in the middle of it, and killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from forebay import Dispatcher

HERE = Path(__file__).parent
LIMIT = 60
CLIENTS = 4
# A server that ends well ends by the signal that it was sent.
ENDED = (0, -signal.SIGTERM)


class Service:
    """One socket, on which one process after the other serves: no client comes to a closed door."""

    def __init__(self, folder: Path) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.orders, self.delivered = folder / "orders.db", folder / "delivered.txt"
        self.delivered.touch()

    @contextmanager
    def process(self) -> Iterator[subprocess.Popen[bytes]]:
        where = os.environ | {"ORDERS": f"sqlite:{self.orders}", "DELIVERED": str(self.delivered)}
        fd = self._socket.fileno()
        command = [sys.executable, "-m", "uvicorn", "app:app", "--fd", str(fd), "--log-level", "warning"]
        with subprocess.Popen(command, cwd=HERE, env=where, pass_fds=[fd]) as process:
            try:
                yield process
            finally:
                process.kill()

    def ask(self, method: str, path: str) -> httpx.Response:
        return httpx.request(method, f"{self.url}{path}", timeout=LIMIT, verify=False, trust_env=False)

    def order(self, order: str) -> None:
        answer = self.ask("POST", f"/orders/{order}")
        assert answer.status_code == 202, answer.text

    def close(self) -> None:
        self._socket.close()

    def arrived(self) -> list[str]:
        return self.delivered.read_text().splitlines()


class Client:
    """Orders, one after the other, until it is told to stop; notes what was accepted."""

    def __init__(self, service: Service, name: str) -> None:
        self.accepted: list[str] = []
        self.enough = threading.Event()
        self._service, self._name = service, name
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        number = 0
        while not self.enough.is_set():
            number += 1
            order = f"{self._name}-{number}"
            try:
                self._service.order(order)
            except httpx.TransportError:
                # Cut off by a kill, or as uvicorn closed a connection that it had only just taken: nobody
                # promised anything.
                continue
            self.accepted.append(order)


def wait_for(service: Service, count: int) -> None:
    """Until so many orders more were answered by the process that serves now."""
    for number in range(count):
        service.order(f"probe-{os.urandom(4).hex()}-{number}")


def test_a_deploy_and_a_kill_under_load_lose_nothing(tmp_path: Path) -> None:
    service = Service(tmp_path)
    clients: list[Client] = []
    try:
        with service.process() as process:
            wait_for(service, 1)
            clients += [Client(service, f"c{n}") for n in range(CLIENTS)]
            wait_for(service, 20)
            process.send_signal(signal.SIGTERM)
            assert process.wait(LIMIT) in ENDED
        deployed = len(service.arrived())
        with service.process() as process:
            wait_for(service, 20)
            process.kill()
            process.wait(LIMIT)
        killed = len(service.arrived())
        with service.process() as process:
            wait_for(service, 20)
            for client in clients:
                client.enough.set()
            for client in clients:
                client.thread.join(LIMIT)
                assert not client.thread.is_alive()
            assert 'forebay_pushed_total{queue="default"}' in service.ask("GET", "/metrics/").text
            job = service.ask("POST", "/orders/last").json()["id"]
            assert service.ask("GET", f"/jobs/{job}").json() in ("queued", "running", "succeeded")
            process.send_signal(signal.SIGTERM)
            assert process.wait(LIMIT) in ENDED
    finally:
        for client in clients:
            client.enough.set()
        service.close()
    # What waits still is in the file, and the next process has it.
    d = Dispatcher(service.orders)

    @d.handler
    def deliver(order: str) -> None:
        with service.delivered.open("a") as file:
            file.write(f"{order}\n")

    with d:
        d.drain(LIMIT)
    arrived = service.arrived()
    for client in clients:
        assert client.accepted
        assert set(client.accepted) <= set(arrived)
    # Only what ran at the kill may have arrived twice, or had ended too shortly before to be in the file.
    times = Counter(arrived)
    assert max(times.values()) <= 2
    assert {order for order in arrived if times[order] == 2} <= set(arrived[deployed:killed])
