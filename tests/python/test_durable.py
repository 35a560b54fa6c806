"""Jobs in a file: what is acknowledged survives, and how the file is opened and shared."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import forebay
import pytest
from conftest import LIMIT
from forebay import Dispatcher

Opened = Callable[..., Dispatcher]


class Blocker:
    """Another process that writes to the database until it is told to end: the others wait for it."""

    def __init__(self, path: Path) -> None:
        code = f"""
import sqlite3, sys
db = sqlite3.connect({str(path)!r}, isolation_level=None, timeout=60)
db.execute("BEGIN IMMEDIATE")
print("begun", flush=True)
sys.stdin.readline()
db.execute("ROLLBACK")
"""
        pipe = subprocess.PIPE
        self._process = subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, text=True)
        out: IO[str] | None = self._process.stdout
        assert out is not None
        assert out.readline() == "begun\n"

    def release(self) -> None:
        """Lets the others write."""
        self._process.communicate("\n", timeout=LIMIT)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()


def groups_in(path: Path) -> int:
    """How many transactions are in the log of the database: each ends with a frame that says so."""
    log = Path(f"{path}-wal").read_bytes()
    page_size = struct.unpack_from(">I", log, 8)[0]
    salts = log[16:24]
    frames = range(32, len(log) - 23, 24 + page_size)
    return sum(log[at + 8 : at + 16] == salts and log[at + 4 : at + 8] != bytes(4) for at in frames)


@pytest.mark.parametrize("form", ["url", "path", "text", "relative"])
def test_the_ways_to_name_a_file(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "jobs.db"
    url: Any = {
        "url": f"sqlite:{file}?concurrency=3",
        "path": file,
        "text": f"sqlite:{file}",
        "relative": "sqlite:jobs.db",
    }[form]
    d = Dispatcher(url, concurrency=3)
    assert (d.concurrency, d.durability, file.exists()) == (3, "disk", True)
    d.stop()


@pytest.mark.parametrize(
    ("url", "error", "text"),
    [
        ("sqlite:", forebay.InvalidError, "names no file"),
        ("sqlite", forebay.UnsupportedError, 'there are "memory:" and "sqlite:PATH"'),
        ("sqlite:{0}", forebay.InvalidError, "is not a file"),
        ("sqlite:{0}/no/such/jobs.db", forebay.StorageError, "its directory must exist"),
        ("sqlite:{0}/jobs.db?durabilty=os", forebay.NotFoundError, 'nearest is "durability"'),
        ("sqlite:{0}/jobs.db?durability=ssd", forebay.InvalidError, "disk"),
    ],
)
def test_what_names_no_file(url: str, error: type[Exception], text: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=text):
        Dispatcher(url.format(tmp_path))


def test_what_is_no_database_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "jobs.db"
    file.write_bytes(b"something else entirely\n" * 1000)
    with pytest.raises(forebay.CorruptError, match=r"jobs\.db"):
        Dispatcher(file)
    assert file.read_bytes() == b"something else entirely\n" * 1000


def test_jobs_outlive_their_dispatcher(tmp_path: Path) -> None:
    file = tmp_path / "jobs.db"
    with Dispatcher(file) as d:
        d.pause()
        pushed = d.push("greet", {"name": "you", "ids": (1, 2)}, key="one", headers={"a": "b"}, priority=4)
        d.push("later", b"\x00\xff", delay=3600)
        done = d.handler(kind="done")(lambda: {"ok": True}).options(queue="other").push()
        assert done.result(LIMIT) == {"ok": True}
    with Dispatcher(file, concurrency=1) as d:
        job = d.get(pushed.id)
        assert (job.status, job.payload, job.key) == ("queued", {"name": "you", "ids": [1, 2]}, "one")
        assert (job.headers, job.priority, job.crashes) == ({"a": "b"}, 4, 0)
        assert d.get(done.id).result == {"ok": True}
        assert [j.payload for j in d.list(kind="later").jobs] == [b"\x00\xff"]
        assert d.stats()["queues"]["default"]["paused"]
        greet = d.handler(kind="greet")(lambda value: value["name"])
        d.resume()
        assert greet.kind == "greet"
        d.drain(LIMIT)
        assert d.get(pushed.id).result == "you"


@pytest.mark.parametrize("level", ["memory", "os", "disk"])
def test_each_push_reaches_its_level(level: Any, opened: Opened, tmp_path: Path) -> None:
    d = opened(url=tmp_path / "jobs.db", durability=level)
    noop = d.handler(kind="noop")(lambda: None)
    assert d.push("noop").durability == level
    for other in ("memory", "os", "disk"):
        handles = [
            d.push("noop", durability=other),
            noop.options(durability=other).push(),
            *d.push_many([{"kind": "noop", "durability": other}]),
        ]
        assert {h.durability for h in handles} == {other}
    assert d.flush() == "disk"


def test_values_are_written_at_the_push(opened: Opened, tmp_path: Path) -> None:
    d = opened(url=tmp_path / "jobs.db", max_attempts=1)
    seen = []

    @d.handler
    def keep(value: object) -> object:
        seen.append(value)
        return value

    d.start()
    changing = [1, (2,)]
    handle = d.push("keep", changing)
    changing.append(3)
    assert handle.result(LIMIT) == [1, [2]]
    assert keep.push({"a": b"x".decode()}).result(LIMIT) == {"a": "x"}
    bad: Any
    for bad, where in (
        ({"a": [0, {1}]}, r"\.a\[1\]: a set"),
        (object(), ": a object"),
        (float("nan"), ": nan"),
    ):
        with pytest.raises(forebay.EncodeError, match=rf"^\${where} cannot be written as JSON"):
            d.push("keep", bad)
        with pytest.raises(forebay.EncodeError, match=rf"^\$\.args\[0\]{where} cannot be written as JSON"):
            keep.push(bad)
        with pytest.raises(forebay.EncodeError):
            d.push_many([("keep", 1), ("keep", bad)])
    d.drain(LIMIT)
    assert seen == [[1, [2]], {"a": "x"}], "of a batch with such a value nothing is accepted"


def test_a_result_that_cannot_be_written_fails_the_attempt(opened: Opened, tmp_path: Path) -> None:
    d = opened(url=tmp_path / "jobs.db", max_attempts=1)
    made = d.handler(kind="made")(lambda: {"a": {1, 2}})
    d.start()
    with pytest.raises(forebay.JobFailed, match=r"the result cannot be stored: \$\.a: a set"):
        made.push().result(LIMIT)


def test_other_threads_run_while_a_push_waits(opened: Opened, tmp_path: Path) -> None:
    """Somebody else has the file: threads that push wait without the interpreter, and then share a sync."""
    d = opened(url=tmp_path / "jobs.db", write_behind="1h")
    handles: list[forebay.Handle[Any]] = []
    started = threading.Barrier(65)

    def push(n: int) -> None:
        started.wait(LIMIT)
        handles.append(d.push("k", n))

    threads = [threading.Thread(target=push, args=(n,)) for n in range(64)]
    before = groups_in(tmp_path / "jobs.db")
    with Blocker(tmp_path / "jobs.db") as blocker:
        for thread in threads:
            thread.start()
        started.wait(LIMIT)
        # Each has its job in memory, though nobody can have written it; and this thread runs.
        while d.len() < 64:
            pass
        assert handles == []
        blocker.release()
        for thread in threads:
            thread.join(LIMIT)
    assert {h.durability for h in handles} == {"disk"}
    assert sorted(h.job().payload for h in handles) == list(range(64))
    # The first may have gone before the others came; those are one group, or two.
    assert 1 <= groups_in(tmp_path / "jobs.db") - before <= 3


def test_threads_share_their_syncs(opened: Opened, tmp_path: Path) -> None:
    d = opened(url=tmp_path / "jobs.db", write_behind="1h")
    before = groups_in(tmp_path / "jobs.db")
    for pushed in (64, 128, 192):
        threads = [threading.Thread(target=d.push, args=("k", n)) for n in range(64)]
        with Blocker(tmp_path / "jobs.db") as blocker:
            for thread in threads:
                thread.start()
            # All have come before anybody can write.
            while d.len() < pushed:
                pass
            blocker.release()
            for thread in threads:
                thread.join(LIMIT)
    # Of each round the first may go before the others.
    assert 3 <= groups_in(tmp_path / "jobs.db") - before <= 9


def test_what_is_answered_from_memory_lets_nobody_in(opened: Opened, tmp_path: Path) -> None:
    d = opened(url=tmp_path / "jobs.db", durability="memory")
    handle = d.push("k")
    before = d.stats()["python"]["detaches"]
    for _ in range(100):
        d.push("k")
        assert (handle.status, d.len() > 0, d.get(handle.id).attempt) == ("queued", True, 0)
    assert d.stats()["python"]["detaches"] == before
    d.push("k", durability="os")
    assert d.stats()["python"]["detaches"] == before + 1


def test_a_block_leaves_its_jobs_in_the_file(tmp_path: Path) -> None:
    with Dispatcher(tmp_path / "jobs.db") as d:
        d.push("nobody", 1)
    assert sorted(os.listdir(tmp_path))[0] == "jobs.db"
    with Dispatcher(tmp_path / "jobs.db") as d:
        assert d.len() == 1, "no warning: nothing is lost"


def test_the_same_file_twice_in_one_process(tmp_path: Path) -> None:
    d = Dispatcher(tmp_path / "jobs.db")
    with pytest.raises(forebay.AlreadyOpen, match="in use by this process"):
        Dispatcher(tmp_path / "jobs.db")
    d.stop()
    Dispatcher(tmp_path / "jobs.db").stop()


def test_a_collected_dispatcher_lets_its_file_go(tmp_path: Path) -> None:
    for n in range(3):
        d = Dispatcher(tmp_path / "jobs.db")
        assert d.len() == n
        d.push("k")
        del d
