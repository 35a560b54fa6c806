"""Programs of a few lines, run in processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from conftest import LIMIT

ROUNDS = int(os.environ.get("FOREBAY_ROUNDS", "3"))
"""How often tests of races between threads, and of whole processes that are started for it, are repeated."""
REPEATS = 60 if ROUNDS == 3 else 5 * ROUNDS
"""How often programs are run by `repeat`."""
AT_ONCE = 6
"""How many of them at a time: most of them wait, and what races should meet a busy machine."""

HEAD = f"""
import faulthandler, os, signal, sys, threading, time, warnings
faulthandler.enable()
# Python 3.12 warns of every fork beside threads; that it works all the same is what the tests show.
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
import forebay
LIMIT = {LIMIT}
def say(text):
    os.write(1, (text + "\\n").encode())
"""
"""How programs begin; what they wait for, they wait for at most `LIMIT` seconds."""


def program(*parts: str) -> str:
    """A program made of parts."""
    return "\n".join([HEAD, *(textwrap.dedent(part) for part in parts)])


class Script:
    """A running program, made of parts."""

    def __init__(self, *parts: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", program(*parts)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A group of its own, so that children it leaves behind end with it.
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()

    def line(self) -> str:
        """Waits for the next line of output."""
        out: IO[str] | None = self._process.stdout
        assert out is not None
        return out.readline()

    def expect(self, line: str) -> None:
        """Waits for this line of output; whatever comes instead is a failure."""
        got = self.line()
        assert got == f"{line}\n", (got, self.end() if not got else "")

    def send(self, what: signal.Signals) -> None:
        """Sends a signal."""
        self._process.send_signal(what)

    def end(self) -> tuple[int, str, str]:
        """Waits for the end: the exit code, and what is left of output and errors."""
        try:
            out, err = self._process.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            # It tells where it hangs.
            os.killpg(self._process.pid, signal.SIGABRT)
            out, err = self._process.communicate()
            return -1, out, f"hung after {LIMIT} s\n{err}"
        return self._process.returncode, out, err


def run(*parts: str) -> tuple[int, str, str]:
    """Runs a program to its end."""
    with Script(*parts) as script:
        return script.end()


Ends = dict[tuple[int, str, str], int]
"""How programs ended (exit code, output, errors), and how often so."""


def repeat(*parts: str, rounds: int = REPEATS) -> Ends:
    """Runs a program to its end many times: once in an interpreter of its own, else in forked ones."""
    assert rounds > 0
    ends = {run(*parts): 1}
    order = {"program": program(*parts), "rounds": rounds - 1, "at_once": AT_ONCE, "limit": LIMIT}
    forker = Path(__file__).with_name("forker.py")
    done = subprocess.run(
        [sys.executable, forker], input=json.dumps(order), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    for count, *end in json.loads(done.stdout):
        ends[tuple(end)] = ends.get(tuple(end), 0) + count
    assert sum(ends.values()) == rounds
    return ends


def always(*parts: str, out: str = "", err: str = "", code: int = 0, rounds: int = REPEATS) -> None:
    """Runs a program to its end many times, which must be the same each time."""
    ends = repeat(*parts, rounds=rounds)
    assert ends == {(code, out, err): rounds}, ends
