"""The Python producer and the C worker, on one file."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from forebay import Dispatcher

HERE = Path(__file__).parent
LIMIT = 60
Started = Callable[[Path, str], AbstractContextManager[subprocess.Popen[str]]]
Produced = Callable[[Path, str, list[str]], list[str]]


@pytest.fixture(scope="module")
def program(build: Callable[[Path], Path]) -> Path:
    return build(HERE / "worker.c")


def test_one_after_the_other_has_the_file(program: Path, worker: Started, tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path / 'jobs.db'}"
    with Dispatcher(url) as d:
        pushed = d.push_many([("shout", f"line {n}".encode()) for n in range(100)])
    with worker(program, f"{url}?write_behind=0s"):
        assert subprocess.run([program, url], capture_output=True, check=False).returncode == 1
    with Dispatcher(url) as d:
        d.handler(kind="shout")(lambda line: line.decode().upper())
        d.drain(LIMIT)
        assert [d.get(handle).result for handle in pushed] == [f"LINE {n}" for n in range(100)]


def test_a_python_producer_and_c_workers_share_the_file(
    program: Path, worker: Started, produce: Produced, tmp_path: Path
) -> None:
    url = f"sqlite:{tmp_path / 'jobs.db'}?shared=true"
    lines = [f"line {n} of größe" for n in range(300)]
    with worker(program, url), worker(program, url):
        answers = produce(HERE, url, lines)
    # C's toupper leaves what is not ASCII alone.
    assert answers == [line.upper().replace("RÖSSE", "RößE") for line in lines]


def test_a_python_worker_works_beside_a_c_worker(program: Path, worker: Started, tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path / 'jobs.db'}?shared=true"
    with Dispatcher(url) as d, worker(program, url):
        d.handler(kind="shout")(lambda line: line.decode().upper())
        d.handler(kind="count")(len)
        handles = d.push_many([("shout", b"either of them"), ("count", b"python only")] * 50)
        assert [handle.result(LIMIT) for handle in handles] == ["EITHER OF THEM", 11] * 50
