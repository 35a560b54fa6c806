"""What is measured of the Python contenders."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from contenders import Counted
from imports import MODULES, imports
from known import opened
from loops import TABLE

Figures = dict[str, float]

PAYLOAD = {"id": 123456, "user": "alice@example.org", "args": [1, 2, 3], "note": "0123456789abcdefghij"}


@dataclass(frozen=True)
class Table:
    """A table: who is measured, and how."""

    name: str
    title: str
    contenders: tuple[str, ...]
    measure: Callable[[str, int], Figures]


def throughput(name: str, jobs: int) -> Figures:
    """Pushes all jobs and waits until all have run, after a tenth of them for warming up."""
    counted = Counted()
    contender = opened(name, counted.function())

    def run(jobs: int) -> None:
        counted.expect(jobs)
        contender.run(itertools.repeat(PAYLOAD, jobs))
        if not counted.enough.wait(200):
            raise SystemExit(f"{name}: only {next(counted.calls) - 1} of {counted.target} jobs have run")
        contender.wait()

    run(jobs // 10)
    cpu, start = time.process_time(), time.perf_counter()
    run(jobs)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return {"jobs/s": jobs / seconds, "CPU µs/job": 1e6 * cpu / jobs}


def durable(name: str, jobs: int) -> Figures:
    """The same over a file; who syncs several times per job gets fewer of them, so that all take seconds."""
    return throughput(name, jobs if name.startswith("sqlite-") else jobs // 25)


def latency(name: str, jobs: int) -> Figures:
    """Pushes at 1 000 a second, whether the former ones have started or not."""
    waited: list[float] = []
    clock = time.perf_counter

    def started(pushed: float) -> None:
        waited.append(clock() - pushed)

    contender = opened(name, started)
    cpu, at = time.process_time(), clock()
    for _ in range(1500):
        at += 0.001
        time.sleep(max(0.0, at - clock()))
        contender.run((clock(),))
    cpu = time.process_time() - cpu
    time.sleep(0.2)
    waited.sort()
    if len(waited) != 1500:
        raise SystemExit(f"{name}: {len(waited)} of 1500 jobs have started")
    return {"p50 µs": 1e6 * waited[750], "p99 µs": 1e6 * waited[1485], "CPU µs/job": 1e6 * cpu / 1500}


def memory(name: str, jobs: int) -> Figures:
    """Queues jobs with one payload behind one that does not end, and looks how much the process has grown."""
    for_ever = threading.Event()
    contender = opened(name, lambda payload: for_ever.wait())
    contender.run(itertools.repeat(PAYLOAD, 1000))
    before = resident()
    contender.run(itertools.repeat(PAYLOAD, jobs))
    after = resident()
    return {"bytes/job": (after - before) / jobs, "RSS MB": after / 1e6}


def backlog(name: str, jobs: int) -> Figures:
    """Pushes while nothing waits and while a million jobs wait."""
    for_ever = threading.Event()
    contender = opened(name, lambda payload: for_ever.wait())

    def push(jobs: int) -> float:
        start = time.perf_counter()
        contender.run(itertools.repeat(PAYLOAD, jobs))
        return 1e9 * (time.perf_counter() - start) / jobs

    push(20_000)
    empty = push(50_000)
    push(1_000_000)
    full = push(50_000)
    return {"ns/push, empty": empty, "ns/push, 1 M queued": full, "ratio": full / empty}


def resident() -> int:
    """Memory of this process that is in the machine now, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) * 1024


_ALL = (
    Table(
        "python",
        "no-op handlers, payload by reference",
        (
            *("executor:1", "executor:2", "executor:8", "executor:1 pinned", "executor:2 pinned"),
            *("threadpool:1", "threadpool:2", "threadpool:1 pinned", "threadpool:2 pinned"),
            *("asyncio-queue:100", "asyncio-tasks", "huey:1"),
            *("forebay:1", "forebay:2", "forebay:4", "forebay:1 pinned", "forebay-many:1"),
            *("forebay-job:1", "forebay-task:1", "executor-results:1 pinned", "forebay-results:1"),
        ),
        throughput,
    ),
    Table(
        "python-executor",
        "executors: no-op functions, by reference, every result read",
        (
            *("executor-results:1", "executor-results:2", "executor-results:8"),
            *("executor-results:1 pinned", "executor-results:2 pinned"),
            *("forebay-executor-results:1", "forebay-executor-results:2", "forebay-executor-results:8"),
            *("forebay-executor-results:1 pinned", "forebay-executor-retries:1"),
            *("executor-map:1", "executor-map:2", "executor-map:1 pinned", "executor-map:2 pinned"),
            *("forebay-executor-map:1", "forebay-executor-map:1 pinned", "forebay-executor-chunks:1"),
        ),
        throughput,
    ),
    Table(
        "python-durable",
        "no-op handlers, every push on the disk when it returns (but for `os`)",
        (
            *("persist-queue:1", "huey-sqlite:1", "localqueue:1", "localqueue-many:1"),
            *("sqlite:1", "sqlite-os:1", "sqlite-64:1", "sqlite-many:1", "sqlite-many-1000:1"),
        ),
        durable,
    ),
    Table("python-async", "no-op coroutines, payload by reference", TABLE, throughput),
    Table("python-json", "payload as JSON and back", ("json-loop", "forebay-json:1"), throughput),
    Table(
        "python-latency",
        "push to start at 1 000 a second, two threads",
        ("executor:2", "threadpool:2", "forebay:2", "forebay-executor:2"),
        latency,
    ),
    Table(
        "python-memory",
        "queued jobs beside their payload, the only thread blocked",
        ("executor:1", "threadpool:1", "forebay:1"),
        memory,
    ),
    Table(
        "python-backlog",
        "the price of a push, with and without a million jobs before it",
        ("executor:1", "forebay:1"),
        backlog,
    ),
    Table("python-import", "an import, beyond the bare interpreter", tuple(MODULES), imports),
)

TABLES = {table.name: table for table in _ALL}
