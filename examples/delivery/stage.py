"""What the two ways of the delivery demo share: its processes, what the senders tell, and the verdict."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

HERE = Path(__file__).resolve().parent


@dataclasses.dataclass
class Progress:
    """What the senders have told so far."""

    total: int
    delivered: dict[str, float] = dataclasses.field(default_factory=dict)
    attempts: int = 0
    refused: int = 0
    restored: int = 0
    began: float = dataclasses.field(default_factory=time.monotonic)

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
        self.show()

    def show(self) -> None:
        """Draws the bar, if a person watches."""
        if sys.stdout.isatty():
            share = len(self.delivered) / max(1, self.total)
            bar = ("#" * round(40 * share)).ljust(40, ".")
            print(
                f"\r[{bar}] {len(self.delivered)}/{self.total} delivered, {self.took():4.1f} s",
                end="",
                flush=True,
            )

    def took(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self.began


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


@contextlib.contextmanager
def receiving(seed: int, report: Path) -> Iterator[str]:
    """Runs the receiver, gives its port, and leaves its report in the file."""
    with child("receiver.py", "--seed", str(seed), "--report", str(report)) as receiver:
        yield lines(receiver).readline().split()[1]


def lines(process: subprocess.Popen[str]) -> IO[str]:
    """What the child says."""
    assert process.stdout is not None
    return process.stdout


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What the receiver has got, by its own record: nothing that a sender or its queue says comes in."""

    files: int
    lost: int
    corrupted: int
    unasked: int
    counts: dict[str, int]

    @classmethod
    def of(cls, root: Path, paths: list[str], report: Path) -> Verdict:
        """Compares what was received with what was to be sent."""
        record = json.loads(report.read_text())
        received = {path: file["sha256"] for path, file in record["files"].items()}
        differs = [path for path in paths if path in received and received[path] != digest(root / path)]
        return cls(
            files=len(paths),
            lost=len(set(paths) - received.keys()),
            corrupted=len(differs),
            unasked=len(received.keys() - set(paths)),
            counts=record["counts"],
        )

    def __str__(self) -> str:
        """The verdict in one line."""
        arrived = self.files - self.lost
        return f"delivered {arrived} of {self.files}, lost {self.lost}, corrupted {self.corrupted}"

    @property
    def sound(self) -> bool:
        """Whether everything arrived as it was, and nothing else."""
        return self.lost == self.corrupted == self.unasked == 0


def digest(file: Path) -> str:
    """The SHA-256 of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def summary(progress: Progress, verdict: Verdict, took: float, **more: str) -> None:
    """Prints the numbers behind the verdict; those that only one way has come in between."""
    waits = sorted(progress.delivered.values()) or [0.0]
    p99 = waits[min(len(waits) - 1, len(waits) * 99 // 100)]
    counts = verdict.counts
    rows = {
        "attempts, retries": f"{progress.attempts}, {progress.attempts - len(progress.delivered)}",
        "the network": f"refused {progress.refused}, 503 {counts['unavailable']}, reset {counts['reset']}, "
        f"replies lost {counts['lost_reply']}, stalled {counts['stalled']}",
        **{name.replace("_", " "): text for name, text in more.items()},
        "push to delivery": f"p50 {statistics.median(waits):.2f} s, p99 {p99:.2f} s",
        "the whole job": f"{took:.1f} s",
    }
    for name, text in rows.items():
        print(f"  {name:20}{text}")
