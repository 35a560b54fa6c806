"""The Python producer and the Go worker, on one file."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import forebay
import pytest
from forebay import Dispatcher

HERE = Path(__file__).parent
LIMIT = 60


@pytest.fixture(scope="module")
def program(build_go: Callable[[Path], Path]) -> Path:
    return build_go(HERE)


@contextmanager
def worker(program: Path, url: str) -> Iterator[subprocess.Popen[str]]:
    """A worker that is ready, and is told to stop in the end."""
    with subprocess.Popen([program, url], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        if process.poll() is None:
            process.terminate()
            assert process.wait(LIMIT) == 0


def produce(url: str, lines: list[str]) -> list[list[str]]:
    command = [sys.executable, str(HERE / "producer.py"), url]
    text = "".join(f"{line}\n" for line in lines)
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return [line.split(maxsplit=1) for line in done.stdout.splitlines()]


def test_a_python_producer_and_go_workers_share_the_file(program: Path, tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path / 'jobs.db'}?shared=true"
    lines = ["größe " * n for n in range(1, 200)]
    with worker(program, url) as one, worker(program, url) as two:
        answers = produce(url, lines)
    assert [int(words) for words, _ in answers] == list(range(1, 200))
    assert {worker for _, worker in answers} <= {f"go {one.pid}", f"go {two.pid}"}


def test_a_killed_worker_loses_no_text(program: Path, tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path / 'jobs.db'}?shared=true"
    with Dispatcher(url, lease=5) as d:
        handles = d.push_many([("count_words", {"text": "one two"})] * 300)
        with worker(program, f"{url}&lease=5s") as victim:
            handles[0].result(LIMIT)
            victim.kill()
            victim.wait(LIMIT)
        with worker(program, f"{url}&lease=5s"):
            assert [handle.result(LIMIT)["words"] for handle in handles] == [2] * 300


def test_a_text_that_is_empty_fails_at_once(program: Path, tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path / 'jobs.db'}?shared=true"
    with Dispatcher(url) as d, worker(program, url):
        handle = d.push("count_words", {"text": ""})
        with pytest.raises(forebay.JobFailed, match="there is no text"):
            handle.result(LIMIT)
        assert handle.job().attempt == 1
