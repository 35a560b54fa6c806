"""The Python producer and the Go worker, on one file."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import forebay
import pytest
from forebay import Dispatcher

HERE = Path(__file__).parent
LIMIT = 60
Started = Callable[[Path, str], AbstractContextManager[subprocess.Popen[str]]]
Produced = Callable[[Path, str, list[str]], list[str]]


@pytest.fixture(scope="module")
def program(build_go: Callable[[Path], Path]) -> Path:
    return build_go(HERE)


def test_a_python_producer_and_go_workers_share_the_file(
    program: Path, worker: Started, produce: Produced, tmp_path: Path
) -> None:
    url = f"sqlite:{tmp_path / 'jobs.db'}?shared=true"
    lines = ["größe " * n for n in range(1, 200)]
    with worker(program, url) as one, worker(program, url) as two:
        answers = [line.split(maxsplit=1) for line in produce(HERE, url, lines)]
    assert [int(words) for words, _ in answers] == list(range(1, 200))
    assert {who for _, who in answers} <= {f"go {one.pid}", f"go {two.pid}"}


def test_a_killed_worker_loses_no_text(program: Path, worker: Started, tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path / 'jobs.db'}?shared=true"
    with Dispatcher(url, lease=5) as d:
        handles = d.push_many([("count_words", {"text": "one two"})] * 300)
        with worker(program, f"{url}&lease=5s") as victim:
            handles[0].result(LIMIT)
            victim.kill()
            victim.wait(LIMIT)
        with worker(program, f"{url}&lease=5s"):
            assert [handle.result(LIMIT)["words"] for handle in handles] == [2] * 300


def test_a_text_that_is_empty_fails_at_once(program: Path, worker: Started, tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path / 'jobs.db'}?shared=true"
    with Dispatcher(url) as d, worker(program, url):
        handle = d.push("count_words", {"text": ""})
        with pytest.raises(forebay.JobFailed, match="there is no text"):
            handle.result(LIMIT)
        assert handle.job().attempt == 1
