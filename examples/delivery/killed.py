"""The delivery with a durable queue: the sender is killed again and again, at random moments.

Nobody stops it, nothing is dumped: it dies by SIGKILL while it opens its queue, while it fills it, while it
delivers. The next one opens the same file and goes on. What it has delivered is not asked of it or of its
queue: the receiver's own record is compared with the files.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

from sender import python_sources
from stage import Progress, Verdict, child, lines, receiving, summary


@dataclasses.dataclass(frozen=True)
class Moment:
    """When a sender is killed: so many seconds after it was started, or after a number of deliveries."""

    when: str
    deliveries: int
    seconds: float


def draw(moods: random.Random, kills_left: int, files_left: int, filling: bool) -> Moment:
    """A moment for the next kill, early enough that there is something to do for those that come after."""
    if filling:
        return Moment("while it filled the queue", 0, moods.uniform(0.05, 0.6))
    if moods.random() < 0.2:
        return Moment("while it opened the queue", 0, moods.uniform(0.05, 0.5))
    share = max(0, min(2 * files_left // (kills_left + 1), files_left - 1))
    return Moment("while it delivered", moods.randint(min(1, share), share), moods.uniform(0, 0.05))


class Life:
    """One sender, from its start to its death or the end of its work."""

    def __init__(self, progress: Progress, moment: Moment | None) -> None:
        """A life that ends at this moment, if at one."""
        self.progress, self.moment = progress, moment
        self.filled = False
        self.code = 0
        self._timer: threading.Timer | None = None
        self._before = len(progress.delivered)

    def live(self, *arguments: str) -> None:
        """Runs it."""
        with child("sender.py", *arguments) as sender:
            self._kill_if_it_is_time(sender)
            for line in lines(sender):
                # What a killed process was about to say may end in the middle.
                if line.endswith("\n"):
                    fact = json.loads(line)
                    self.filled = self.filled or fact["event"] == "started"
                    self.progress.take(fact)
                self._kill_if_it_is_time(sender)
            if self._timer is not None:
                self._timer.join()
            self.code = sender.wait()

    @property
    def killed(self) -> bool:
        """Whether the signal was its end."""
        return self.code == -signal.SIGKILL

    def _kill_if_it_is_time(self, sender: subprocess.Popen[str]) -> None:
        delivered = len(self.progress.delivered) - self._before
        if self.moment is not None and self._timer is None and delivered >= self.moment.deliveries:
            self._timer = threading.Timer(self.moment.seconds, sender.kill)
            self._timer.start()


@dataclasses.dataclass
class Course:
    """All lives of the sender, one after the other."""

    progress: Progress
    kills: int
    moods: random.Random
    deaths: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    code: int = 0

    def run(self, *arguments: str) -> None:
        """Lets senders live until one of them has nothing left to do."""
        filled = False
        while True:
            kills_left = self.kills - self.deaths.total()
            files_left = self.progress.total - len(self.progress.delivered)
            # Some die while they fill the queue; then one must be left to do it.
            filling = not filled and self.deaths.total() < self.kills / 4
            moment = draw(self.moods, kills_left, files_left, filling) if kills_left > 0 else None
            life = Life(self.progress, moment)
            life.live(*arguments, *([] if filled else ["--fill"]))
            filled, self.code = filled or life.filled, life.code
            if moment is None or not life.killed:
                break
            self.deaths[moment.when] += 1


def deliver_killed(root: Path, scratch: Path, seed: int, concurrency: int, kills: int) -> int:
    """Does the whole job and prints what came of it."""
    paths = python_sources(root)
    course = Course(Progress(len(paths)), kills, random.Random(seed))
    with receiving(seed, scratch / "report.json") as port:
        course.run(
            *("--root", str(root), "--port", port, "--concurrency", str(concurrency)),
            *("--store", f"sqlite:{scratch / 'jobs.db'}"),
        )
        took = course.progress.took()
    verdict = Verdict.of(root, paths, scratch / "report.json")
    killed = course.deaths.total()
    if sys.stdout.isatty():
        print()
    print(f"killed {killed} times")
    print(f"{verdict}, {verdict.counts['duplicates']} duplicates")
    summary(
        course.progress,
        verdict,
        took,
        the_kills=", ".join(f"{count} {when}" for when, count in course.deaths.items()),
    )
    if verdict.sound and course.code == 0 and killed >= kills:
        return 0
    print(
        f"FAILED: the last sender ended with {course.code}, {killed} of {kills} kills, "
        f"{verdict.unasked} files unasked for",
        file=sys.stderr,
    )
    return 1
