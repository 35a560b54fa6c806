"""Runs one program in many processes that are forked from here, and tells how they ended.

An interpreter that starts takes longer than most programs of the tests run. A child of this process has it
all loaded; it runs the program as its own `__main__`, and ends as any interpreter does.

Reads from its input, as JSON: the program, how many rounds, how many at once, and the longest one may take.
Writes each way to end, with how often it came: `[[count, exit code, output, errors], ...]`.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from typing import IO, Any


@dataclass
class Child:
    """A process that runs."""

    pid: int
    fd: int
    out: IO[bytes]
    err: IO[bytes]
    until: float

    def end(self) -> tuple[int, str, str]:
        """How it ended."""
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.fd)
        texts = []
        for stream in (self.out, self.err):
            stream.seek(0)
            texts.append(stream.read().decode(errors="replace"))
            stream.close()
        # What it may have left behind.
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        return code, texts[0], texts[1]


def main() -> str | None:
    """Runs all rounds; or, in a child, returns the program."""
    order: dict[str, Any] = json.load(sys.stdin)
    left, limit = order["rounds"], order["limit"]
    running: dict[int, Child] = {}
    poll, ends = select.poll(), Counter[tuple[int, str, str]]()
    while left > 0 or running:
        while left > 0 and len(running) < order["at_once"]:
            left -= 1
            child = start(limit)
            if child is None:
                return str(order["program"])
            running[child.fd] = child
            poll.register(child.fd, select.POLLIN)
        first = min(child.until for child in running.values())
        for fd, _ in poll.poll(max(0.0, first - time.monotonic()) * 1000):
            poll.unregister(fd)
            ends[running.pop(fd).end()] += 1
        for child in running.values():
            if child.until < time.monotonic():
                # It tells where it hangs, and is gone.
                os.killpg(child.pid, signal.SIGABRT)
                child.until += limit
    json.dump([[count, *end] for end, count in ends.items()], sys.stdout)
    return None


def start(limit: float) -> Child | None:
    """Another child; None in that one."""
    out, err = tempfile.TemporaryFile(), tempfile.TemporaryFile()
    pid = os.fork()
    if pid:
        return Child(pid, os.pidfd_open(pid), out, err, time.monotonic() + limit)
    os.setsid()
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(out.fileno(), 1)
    os.dup2(err.fileno(), 2)
    return None


if __name__ == "__main__":
    import forebay  # noqa: F401  What every child needs.

    if program := main():
        exec(compile(program, "<program>", "exec"), {"__name__": "__main__"})
