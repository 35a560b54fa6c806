#!/usr/bin/env python3
"""No-op jobs from Python: Forebay beside the thread pools of the standard library, in turn, medians.

Every contender runs each job's function with the job's payload, by reference, and the run ends when all have
run. Forebay keeps an id, a state, attempts and times per job; the pools keep a future or less.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from multiprocessing.pool import ThreadPool

from forebay import Dispatcher

PAYLOAD = {"to": "somebody", "text": "x" * 80}


def noop(payload: object) -> None:
    """Does nothing."""


def executor(jobs: int, workers: int) -> None:
    """``ThreadPoolExecutor.submit``."""
    with ThreadPoolExecutor(workers) as pool:
        wait([pool.submit(noop, PAYLOAD) for _ in range(jobs)])


def apply_async(jobs: int, workers: int) -> None:
    """``ThreadPool.apply_async``."""
    with ThreadPool(workers) as pool:
        for _ in range(jobs):
            pool.apply_async(noop, (PAYLOAD,))
        pool.close()
        pool.join()


def forebay(jobs: int, workers: int) -> None:
    """``Dispatcher.push``."""
    with Dispatcher(concurrency=workers, capacity=0) as d:
        d.handler(kind="noop")(noop)
        for _ in range(jobs):
            d.push("noop", PAYLOAD)
        d.drain()


def measure(contender: Callable[[int, int], None], jobs: int, workers: int) -> tuple[float, float]:
    """Jobs per second, and microseconds of CPU per job."""
    wall, cpu = time.perf_counter(), time.process_time()
    contender(jobs, workers)
    return jobs / (time.perf_counter() - wall), 1e6 * (time.process_time() - cpu) / jobs


def main() -> int:
    """Runs the contenders in turn and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    contenders = [(executor, 2), (apply_async, 1), (forebay, 1), (forebay, 2)]
    results: dict[int, list[tuple[float, float]]] = {i: [] for i in range(len(contenders))}
    for _ in range(arguments.rounds):
        for i, (contender, workers) in enumerate(contenders):
            results[i].append(measure(contender, arguments.jobs, workers))
    version = sys.version.split()[0]
    print(f"{arguments.jobs} no-op jobs, Python {version}, payload by reference, durability: memory")
    print(
        "| contender | workers | jobs/s (median) | CPU us/job | ratio to the first |\n|---|---|---|---|---|"
    )
    first = statistics.median(rate for rate, _ in results[0])
    for i, (contender, workers) in enumerate(contenders):
        rate, cpu = (statistics.median(column) for column in zip(*results[i], strict=True))
        name = (contender.__doc__ or "").strip(".")
        print(f"| {name} | {workers} | {rate:.0f} | {cpu:.2f} | {rate / first:.2f} |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
