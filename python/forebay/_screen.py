"""How a worker process shows itself: a live line where a person watches, lines or JSON elsewhere.

Whoever closes the standard output has seen enough: the worker goes on without it.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from datetime import UTC, datetime
from typing import IO, Any, TextIO, cast

from forebay._look import Counts, Started, now_us
from forebay._types import WorkerArguments

GOOD, BAD, BUSY, DIM = "32", "31", "36", "2"
_ERASE = "\r\x1b[K"
_SELDOM = ("later", "shed")
"""The figures that are shown only if there is something to show."""
_REST = 0.05
"""How long the foot stays away, in seconds, while the program prints a lot."""


def of(arguments: WorkerArguments) -> Screen:
    """The one for these arguments, and for whoever watches."""
    if arguments["json"]:
        return Objects()
    if arguments["quiet"]:
        return Screen()
    # A process may be begun without one.
    if sys.stdout is not None and sys.stdout.isatty():
        return Live(sys.stdout) if os.environ.get("TERM") != "dumb" else Watched()
    return Lines()


class Screen:
    """One that shows only what goes wrong."""

    interval = 60.0
    """How often it wants a look, in seconds."""
    has_foot = False
    """Whether it has a line that others must not print into."""

    def loaded(self, error: BaseException | None) -> None:
        """The program is loaded, or as much of it as there was before this error."""

    def started(self, about: Started) -> None:
        """A worker begins."""

    def look(self, counts: Counts) -> None:
        """Its counts, now and then."""

    def stopping(self, counts: Counts, grace: str) -> None:
        """It was asked to stop, and these jobs still run."""

    def stopped(self, counts: Counts, handed_back: int) -> None:
        """It has stopped."""

    def note(self, text: str, **more: object) -> None:
        """Something happened to one of several processes."""
        self._say(sys.stderr, f"forebay: {harmless(text)}")

    def wrong(self, text: str, code: int) -> None:
        """It cannot begin."""
        self._say(sys.stderr, f"forebay: {harmless(text)}")

    def close(self) -> None:
        """Nothing more comes."""

    def _say(self, to: TextIO | None, text: str) -> None:
        if to is None:
            return
        try:
            to.write(f"{text}\n")
            to.flush()
        except (OSError, ValueError):
            _silence(to)


class Objects(Screen):
    """An object of JSON per line, for programs."""

    def started(self, about: Started) -> None:
        """`started`."""
        self._tell("started", **about)

    def look(self, counts: Counts) -> None:
        """`counts`."""
        self._tell("counts", **counts)

    def stopping(self, counts: Counts, grace: str) -> None:
        """`stopping`."""
        self._tell("stopping", **counts, grace=grace)

    def stopped(self, counts: Counts, handed_back: int) -> None:
        """`stopped`."""
        self._tell("stopped", **counts, handed_back=handed_back)

    def note(self, text: str, **more: object) -> None:
        """`note`."""
        self._tell("note", at_us=now_us(), text=text, **more)

    def wrong(self, text: str, code: int) -> None:
        """The error, as other verbs tell theirs."""
        error = {"kind": "Invalid", "exit_code": code, "message": text}
        self._say(sys.stderr, json.dumps({"error": error}))

    def _tell(self, event: str, /, **more: object) -> None:
        self._say(sys.stdout, json.dumps({"event": event, **more}))


class Lines(Screen):
    """Lines for a log, each with its time; counts only if they have changed."""

    def __init__(self) -> None:
        """Nothing shown yet."""
        self._shown: str | None = None

    def started(self, about: Started) -> None:
        """What it serves, and with what."""
        kinds = ", ".join(about["handlers"])
        self._line(f"started {about['target']} on {about['url']}: {_size(about)}; it handles {kinds}")

    def look(self, counts: Counts) -> None:
        """The counts."""
        text = ", ".join(f"{name} {value}" for name, value, _ in figures(counts) if value)
        if text != self._shown:
            self._line(text or "idle")
        self._shown = text

    def stopping(self, counts: Counts, grace: str) -> None:
        """How long jobs may still take."""
        self._line(_stopping(counts, grace))

    def stopped(self, counts: Counts, handed_back: int) -> None:
        """What there was in all."""
        self._line(_stopped(counts, handed_back))

    def note(self, text: str, **more: object) -> None:
        """A line of its own."""
        self._line(text)

    def _line(self, text: str) -> None:
        at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._say(sys.stdout, f"{at} forebay worker: {harmless(text)}")


class Watched(Lines):
    """The same, where a person watches on a terminal that cannot move its cursor."""

    interval = 10.0


class Live(Screen):
    """A banner, and a line at the foot that changes; what the program prints appears above it."""

    interval = 1.0
    has_foot = True

    def __init__(self, to: IO[str]) -> None:
        """On this terminal, which the standard error may be as well."""
        self._to = to
        self._colours = not os.environ.get("NO_COLOR")
        self._lock = threading.RLock()
        # What the foot says, whether it is there now, and whether the program is in the middle of a line.
        self._foot, self._shown, self._inside = "", False, False
        self._drawn = 0.0
        self._own: list[tuple[str, TextIO]] = []
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if stream is not None and stream.isatty():
                self._own.append((name, stream))
                setattr(sys, name, cast(TextIO, _Above(self, stream)))
        # In a child of a fork, a thread that is not there may hold the lock.
        os.register_at_fork(after_in_child=self._let_go)

    def started(self, about: Started) -> None:
        """The banner."""
        kept = about["durability"]
        head = f"forebay {about['version']}  {about['target']}  {about['url']}"
        print(self._paint(harmless(head), BUSY) + (f" ({kept})" if kept != "memory" else ""))
        print(self._paint(f"  {harmless(_size(about))}; Ctrl-C stops, a second one at once", DIM))
        width = max(map(len, about["handlers"]))
        for kind, options in about["handlers"].items():
            said = "  ".join(f"{name}={text}" for name, text in options.items())
            print(f"  {harmless(kind):{width}}  {self._paint(harmless(said), DIM)}".rstrip())

    def look(self, counts: Counts) -> None:
        """The foot."""
        shown = [
            f"{name} {self._paint(value or '-', colour if value else DIM)}"
            for name, value, colour in figures(counts)
            if value or name not in _SELDOM
        ]
        with self._lock:
            self._foot = self._cut(shown)
            self.erase()
            self.draw()

    def stopping(self, counts: Counts, grace: str) -> None:
        """How long jobs may still take, and what ends them at once."""
        more = "; Ctrl-C again hands them back now" if counts["running"] else ""
        print(_stopping(counts, grace) + more)

    def stopped(self, counts: Counts, handed_back: int) -> None:
        """What there was in all."""
        with self._lock:
            self.erase()
            self._foot = ""
        print(_stopped(counts, handed_back))

    def note(self, text: str, **more: object) -> None:
        """A line above the foot."""
        print(self._paint(harmless(text), BAD))

    def wrong(self, text: str, code: int) -> None:
        """The same, about the whole of it."""
        self._say(sys.stderr, f"forebay: {harmless(text)}")

    def close(self) -> None:
        """Takes the foot away, and gives the program its streams back."""
        with self._lock:
            self.erase()
            self._foot = ""
        self._let_go()

    def above(self, to: TextIO, text: str) -> int:
        """Writes what the program prints."""
        with self._lock:
            self.erase()
            written = to.write(text)
            # In the middle of a line is no place for the foot: it would take the line away with it.
            self._inside = not text.endswith("\n") if text else self._inside
            if not self._inside:
                to.flush()
                if time.monotonic() - self._drawn > _REST:
                    self.draw()
            return written

    def erase(self) -> None:
        """Takes the foot away."""
        if self._shown:
            self._put(_ERASE)
            self._shown = False

    def draw(self) -> None:
        """Shows the foot."""
        if self._foot and not self._inside:
            self._put(self._foot)
            self._shown, self._drawn = True, time.monotonic()

    def _put(self, text: str) -> None:
        try:
            self._to.write(text)
            self._to.flush()
        except (OSError, ValueError):
            _silence(self._to)

    def _let_go(self) -> None:
        for name, stream in self._own:
            setattr(sys, name, stream)
        self._own = []

    def _paint(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colours and colour and text else text

    def _cut(self, shown: list[str]) -> str:
        """As many figures as fit into a line: one that wraps could not be taken away."""
        try:
            width = os.get_terminal_size(self._to.fileno()).columns or 80
        except (OSError, ValueError):
            width = 80
        line, used = "", 0
        for figure in shown:
            used += len(_plain(figure)) + 2
            if used > width:
                break
            line += f"{figure}  "
        return line.rstrip(" ")


class _Above:
    """A stream of the program, whose text appears above the foot of the screen."""

    def __init__(self, screen: Live, to: TextIO) -> None:
        self._screen = screen
        self._to = to

    def write(self, text: str) -> int:
        return self._screen.above(self._to, text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._to, name)


def figures(counts: Counts) -> list[tuple[str, str, str]]:
    """What is shown of the counts: names, texts, which are empty for zero, and colours."""
    wait = counts["oldest_wait_us"]
    return [
        ("running", _number(counts["running"]), BUSY),
        ("waiting", _number(counts["waiting"]), ""),
        ("done", _number(counts["done"]), GOOD),
        ("failed", _number(counts["failed"]), BAD),
        ("jobs/s", _number(round(counts["per_second"])), ""),
        ("oldest wait", _time(wait) if counts["waiting"] else "", ""),
        ("later", _number(counts["later"]), ""),
        ("shed", _number(counts["shed"]), BAD),
    ]


def harmless(text: str) -> str:
    """Text that a terminal may be shown: what it would obey stands as an escape."""
    return "".join(c if c.isprintable() else f"\\u{{{ord(c):x}}}" for c in text)


def _size(about: Started) -> str:
    each = f"{about['processes']} processes with " if about["processes"] > 1 else ""
    threads = "1 thread" if about["threads"] == 1 else f"{about['threads']} threads"
    queues = about["queues"]
    only = f", only {'queue' if len(queues) == 1 else 'queues'} {', '.join(queues)}" if queues else ""
    return f"{each}{threads}, grace {about['grace']}{only}"


def _stopping(counts: Counts, grace: str) -> str:
    running = counts["running"]
    if not running:
        return "stopping"
    jobs = "1 running job has" if running == 1 else f"{running} running jobs have"
    return f"stopping: {jobs} {grace} to end"


def _stopped(counts: Counts, handed_back: int) -> str:
    back = f", {handed_back} handed back" if handed_back else ""
    waiting = counts["waiting"] + counts["later"]
    return f"stopped: {_number(counts['done']) or 0} done, {_number(counts['failed']) or 0} failed{back}" + (
        f", {_number(waiting)} waiting" if waiting else ""
    )


def _number(value: int) -> str:
    return f"{value:,}" if value else ""


def _time(us: int) -> str:
    for unit, name in ((3600_000_000, "h"), (60_000_000, "m"), (1_000_000, "s")):
        if us >= unit:
            return f"{us / unit:.1f}{name}" if us < 10 * unit else f"{us // unit}{name}"
    return f"{us // 1000}ms"


def _plain(text: str) -> str:
    """Text without its colours."""
    parts = text.split("\x1b[")
    return parts[0] + "".join(part.partition("m")[2] for part in parts[1:])


def _silence(stream: IO[str]) -> None:
    """Its reader is gone: what still comes goes nowhere, also what Python flushes at its end."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    except (OSError, ValueError):
        pass
