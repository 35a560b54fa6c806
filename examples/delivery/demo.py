#!/usr/bin/env python3
"""The main job: deliver every source file of the Python standard library over a bad network, across a deploy.

A receiver (``receiver.py``) behaves as real ones do: refuses connections at first, answers 503, resets
connections, loses replies, stalls. A sender (``sender.py``) puts one job per file into a Forebay queue and
delivers them. Halfway the sender gets SIGTERM, stops gracefully and dumps; a new process restores the dump
and goes on. At the end the SHA-256 of every received file is compared with its source.

Exit code 0 means: every file arrived, none was lost, none corrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import json
import os
import signal
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from sender import python_sources

HERE = Path(__file__).resolve().parent


@dataclasses.dataclass
class Progress:
    """What the senders have told so far."""

    total: int
    delivered: dict[str, float] = dataclasses.field(default_factory=dict)
    attempts: int = 0
    refused: int = 0
    restored: int = 0

    def take(self, fact: dict[str, Any]) -> None:
        """Takes one fact in."""
        match fact["event"]:
            case "delivered":
                self.delivered.setdefault(fact["path"], fact["waited"])
                self.attempts += fact["attempt"]
            case "refused":
                self.refused += 1
            case "started":
                self.restored += fact["restored"]

    def show(self, since: float) -> None:
        """Draws the bar, if a person watches."""
        if sys.stdout.isatty():
            share = len(self.delivered) / max(1, self.total)
            bar = ("#" * round(40 * share)).ljust(40, ".")
            took = time.monotonic() - since
            print(
                f"\r[{bar}] {len(self.delivered)}/{self.total} delivered, {took:4.1f} s", end="", flush=True
            )


@contextlib.contextmanager
def child(script: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Runs one of our scripts; it is gone when the block ends, however it ends."""
    command = [sys.executable, str(HERE / script), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()


def lines(process: subprocess.Popen[str]) -> IO[str]:
    """What the child says."""
    assert process.stdout is not None
    return process.stdout


def send(progress: Progress, until: int, began: float, *arguments: str) -> int:
    """Runs a sender until so many files are delivered, stops it with SIGTERM, and returns its exit code."""
    with child("sender.py", *arguments) as sender:
        for line in lines(sender):
            progress.take(json.loads(line))
            progress.show(began)
            if len(progress.delivered) >= until and sender.poll() is None:
                sender.send_signal(signal.SIGTERM)
                until = sys.maxsize
        return sender.wait()


def compare(root: Path, paths: list[str], report: dict[str, Any]) -> tuple[int, int]:
    """How many files are missing, and how many differ."""
    lost = corrupted = 0
    for path in paths:
        received = report["files"].get(path)
        if received is None:
            lost += 1
        elif received["sha256"] != hashlib.sha256((root / path).read_bytes()).hexdigest():
            corrupted += 1
    return lost, corrupted


def deliver_all(root: Path, scratch: Path, seed: int, concurrency: int) -> int:
    """Does the whole job and prints what came of it."""
    paths = python_sources(root)
    progress, began = Progress(total=len(paths)), time.monotonic()
    report_file, dump_file = scratch / "report.json", scratch / "jobs.dump"
    with child("receiver.py", "--seed", str(seed), "--report", str(report_file)) as receiver:
        port = lines(receiver).readline().split()[1]
        common = (
            "--root",
            str(root),
            "--port",
            port,
            "--dump",
            str(dump_file),
            "--concurrency",
            str(concurrency),
        )
        first = send(progress, len(paths) // 2, began, *common, "--fill")
        halfway = len(progress.delivered)
        second = send(progress, len(paths), began, *common)
        receiver.terminate()
        receiver.wait()
    report = json.loads(report_file.read_text())
    lost, corrupted = compare(root, paths, report)
    took = time.monotonic() - began
    if sys.stdout.isatty():
        print()
    print(f"delivered {len(paths) - lost} of {len(paths)}, lost {lost}, corrupted {corrupted}")
    summary(progress, report["counts"], halfway, took)
    ok = lost == corrupted == 0 and first == second == 0 and progress.restored > 0
    if not ok:
        print(
            f"FAILED: senders ended with {first} and {second}, {progress.restored} jobs restored",
            file=sys.stderr,
        )
    return 0 if ok else 1


def summary(progress: Progress, counts: dict[str, int], halfway: int, took: float) -> None:
    """Prints the numbers behind the first line."""
    waits = sorted(progress.delivered.values())
    p99 = waits[min(len(waits) - 1, len(waits) * 99 // 100)]
    rows = {
        "duplicates": f"{counts['duplicates']} (a lost reply leaves the sender no other choice)",
        "attempts, retries": f"{progress.attempts}, {progress.attempts - len(progress.delivered)}",
        "the network": f"refused {progress.refused}, 503 {counts['unavailable']}, reset {counts['reset']}, "
        f"replies lost {counts['lost_reply']}, stalled {counts['stalled']}",
        "the deploy": f"SIGTERM after {halfway} files, {progress.restored} jobs restored by the next process",
        "push to delivery": f"p50 {statistics.median(waits):.2f} s, p99 {p99:.2f} s",
        "the whole job": f"{took:.1f} s",
    }
    for name, text in rows.items():
        print(f"  {name:20}{text}")


def standard_library() -> Path:
    """The fullest standard library of this machine: distributions split theirs, version managers do not."""
    manager = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    homes = [Path(sysconfig.get_path("stdlib")), *Path("/usr/local/lib").glob("python3.*")]
    homes += manager.glob("3.*/lib/python3.*")
    return max(
        (home for home in homes if (home / "os.py").is_file()), key=lambda home: len(python_sources(home))
    )


def main(argv: list[str] | None = None) -> int:
    """Reads the command line and does the job."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--root", type=Path, help="what to deliver (default: the fullest standard library here)"
    )
    parser.add_argument("--seed", type=int, default=1, help="seed of the receiver's moods (default 1)")
    parser.add_argument("--concurrency", type=int, default=16, help="deliveries at once (default 16)")
    arguments = parser.parse_args(argv)
    root = arguments.root or standard_library()
    if not python_sources(root):
        parser.error(f"{root} holds no Python source")
    with tempfile.TemporaryDirectory(prefix="forebay-demo-") as scratch:
        return deliver_all(root, Path(scratch), arguments.seed, arguments.concurrency)


if __name__ == "__main__":
    raise SystemExit(main())
