#!/usr/bin/env python3
"""The main job: deliver every source file of the Python standard library over a bad network, across a deploy.

A receiver (``receiver.py``) behaves as real ones do: refuses connections at first, answers 503, resets
connections, loses replies, stalls. A sender (``sender.py``) puts one job per file into a Forebay queue and
delivers them. Halfway the sender gets SIGTERM, stops gracefully and dumps; a new process restores the dump
and goes on. At the end the SHA-256 of every received file is compared with its source.

With ``--durable`` the queue is a file, and instead of being stopped the sender is killed with SIGKILL at a
dozen random moments; see ``killed.py``.

Exit code 0 means: every file arrived, none was lost, none corrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import sysconfig
import tempfile
from pathlib import Path

from killed import deliver_killed
from sender import python_sources
from stage import Progress, Verdict, child, lines, receiving, summary


def send(progress: Progress, until: int, *arguments: str) -> int:
    """Runs a sender until so many files are delivered, stops it with SIGTERM, and returns its exit code."""
    with child("sender.py", *arguments) as sender:
        for line in lines(sender):
            progress.take(json.loads(line))
            if len(progress.delivered) >= until and sender.poll() is None:
                sender.send_signal(signal.SIGTERM)
                until = sys.maxsize
        return sender.wait()


def deliver_all(root: Path, scratch: Path, seed: int, concurrency: int) -> int:
    """Does the whole job and prints what came of it."""
    paths = python_sources(root)
    progress = Progress(total=len(paths))
    with receiving(seed, scratch / "report.json") as port:
        common = ["--root", str(root), "--port", port, "--concurrency", str(concurrency)]
        common += ["--dump", str(scratch / "jobs.dump")]
        first = send(progress, len(paths) // 2, *common, "--fill")
        halfway = len(progress.delivered)
        second = send(progress, len(paths), *common)
        took = progress.took()
    verdict = Verdict.of(root, paths, scratch / "report.json")
    if sys.stdout.isatty():
        print()
    print(verdict)
    duplicates = f"{verdict.counts['duplicates']} (a lost reply leaves the sender no other choice)"
    deploy = f"SIGTERM after {halfway} files, {progress.restored} jobs restored by the next process"
    summary(progress, verdict, took, duplicates=duplicates, the_deploy=deploy)
    if verdict.sound and first == second == 0 and progress.restored > 0:
        return 0
    print(
        f"FAILED: senders ended with {first} and {second}, {progress.restored} jobs restored", file=sys.stderr
    )
    return 1


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
    parser.add_argument(
        "--durable", action="store_true", help="keep the queue in a file, and kill the sender again and again"
    )
    parser.add_argument("--kills", type=int, default=12, help="how often, with --durable (default 12)")
    arguments = parser.parse_args(argv)
    root = arguments.root or standard_library()
    if not python_sources(root):
        parser.error(f"{root} holds no Python source")
    with tempfile.TemporaryDirectory(prefix="forebay-demo-") as scratch:
        how = (root, Path(scratch), arguments.seed, arguments.concurrency)
        return deliver_killed(*how, arguments.kills) if arguments.durable else deliver_all(*how)


if __name__ == "__main__":
    raise SystemExit(main())
