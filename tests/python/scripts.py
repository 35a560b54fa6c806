"""Programs of a few lines, run in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from contextlib import suppress
from types import TracebackType
from typing import IO, Self

from conftest import LIMIT

ROUNDS = int(os.environ.get("FOREBAY_ROUNDS", "3"))
"""How often tests of races between processes, threads and signals are repeated."""

HEAD = """
import faulthandler, os, signal, sys, threading, time, warnings
faulthandler.enable()
# Python 3.12 warns of every fork beside threads; that it works all the same is what the tests show.
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
import forebay
def say(text):
    os.write(1, (text + "\\n").encode())
"""


class Script:
    """A running program, made of parts."""

    def __init__(self, *parts: str) -> None:
        program = "\n".join([HEAD, *(textwrap.dedent(part) for part in parts)])
        self._process = subprocess.Popen(
            [sys.executable, "-c", program],
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
