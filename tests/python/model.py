"""The rules of a queue, in plain Python: what `test_model.py` holds the engines to.

One queue, jobs of two kinds, a clock in milliseconds. Every rule is one that `docs/states.md`,
`docs/overload.md` and `docs/durable.md` promise. Each can be planted with a mistake, to show that it would
be found.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

PAUSE = 2_000
"""The pause after a failure, in milliseconds."""
TIMEOUT = 5_000
"""How long an attempt of a job with a timeout may take."""
MOST_CRASHES = 2
FINAL = ("succeeded", "failed", "cancelled", "expired", "shed")
WAITING = ("scheduled", "queued")

OnFull = Literal["reject", "drop_newest", "drop_oldest", "drop_lowest"]
Mistake = Literal[
    "snoozes count",
    "priorities are ignored",
    "a cancelled key is kept",
    "a crash is forgiven",
    "what is overdue runs",
    "success beats a cancel",
    "a failure has no pause",
    "one more fits in",
    "a stop counts",
    "a pause ends with the process",
    "the last attempt is made twice",
    "a timeout is for good",
]
"""A rule that is wrong on purpose."""


@dataclass
class Job:
    """One job as it should be."""

    kind: str
    number: int
    """The order of pushes."""
    priority: int
    most: int
    run_at: int
    deadline: int | None
    timeout: bool
    key: str | None
    state: str = "queued"
    attempt: int = 0
    crashes: int = 0
    started: int = 0
    refused: bool = False
    """Whether it was shed as it came: a file does not keep that for the next process."""
    asked_to_stop: bool = False


@dataclass
class Model:
    """All of it as it should be."""

    on_full: OnFull
    capacity: int
    mistake: Mistake | None = None
    now: int = 0
    paused: bool = False
    jobs: list[Job] = field(default_factory=list)

    def waiting(self) -> list[Job]:
        """The jobs that fill the queue."""
        return [job for job in self.jobs if job.state in WAITING]

    def running(self) -> list[Job]:
        """The jobs that somebody holds."""
        return [job for job in self.jobs if job.state == "running"]

    # ---- pushing ----------------------------------------------------------------------------------------

    def with_key(self, key: str | None) -> Job | None:
        """The job that has a key: one that was cancelled or shed has given it back."""
        free = {"cancelled", "shed", "forgotten"}
        if self.mistake == "a cancelled key is kept":
            free.remove("cancelled")
        held = (job for job in self.jobs if key is not None and job.key == key and job.state not in free)
        return next(held, None)

    def push(self, job: Job) -> Literal["taken", "refused", "shed"]:
        """What becomes of a job that is new."""
        limit = self.capacity + (self.mistake == "one more fits in")
        if len(self.waiting()) >= limit and self.on_full == "reject":
            return "refused"
        # There may be more than fit in: what is handed back, snoozed or retried is never refused.
        while len(self.waiting()) >= limit:
            victim = self._victim(job)
            if victim is None:
                job.state, job.refused = "shed", True
                self.jobs.append(job)
                return "shed"
            self._end(victim, "shed")
        job.state = "scheduled" if job.run_at > self.now else "queued"
        self.jobs.append(job)
        return "taken"

    def _victim(self, newcomer: Job) -> Job | None:
        """Who goes: only what could run now makes room for another."""
        queued = [job for job in self.waiting() if job.state == "queued"]
        if self.on_full == "drop_newest" or not queued:
            return None
        if self.on_full == "drop_oldest":
            return min(queued, key=lambda job: (job.run_at, job.number))
        lowest = min(queued, key=lambda job: (job.priority, job.run_at, job.number))
        return lowest if lowest.priority < newcomer.priority else None

    # ---- running ----------------------------------------------------------------------------------------

    def next(self, kinds: list[str] | None) -> Job | None:
        """The job that comes next for a consumer of these kinds."""
        if self.paused:
            return None
        queued = [job for job in self.jobs if job.state == "queued" and (not kinds or job.kind in kinds)]
        ignored = self.mistake == "priorities are ignored"
        order = sorted(queued, key=lambda job: (0 if ignored else -job.priority, job.run_at, job.number))
        return order[0] if order else None

    def claim(self, job: Job) -> None:
        """Somebody gets it."""
        job.state, job.started, job.asked_to_stop = "running", self.now, False
        job.attempt += 1

    def complete(self, job: Job) -> None:
        """It worked."""
        late = job.asked_to_stop and self.mistake != "success beats a cancel"
        self._end(job, "cancelled" if late else "succeeded")

    def fail(self, job: Job, pause: int | None = None) -> None:
        """It failed, or asked for another attempt after a pause of its own."""
        last = job.most + (self.mistake == "the last attempt is made twice")
        if job.asked_to_stop:
            self._end(job, "cancelled")
        elif job.attempt >= last:
            self._end(job, "failed")
        elif pause is None:
            self._again(job, 0 if self.mistake == "a failure has no pause" else PAUSE)
        else:
            self._again(job, pause)

    def snooze(self, job: Job, pause: int) -> None:
        """It is not time yet; that is no attempt."""
        if job.asked_to_stop:
            return self._end(job, "cancelled")
        if self.mistake != "snoozes count":
            job.attempt -= 1
        self._again(job, pause)

    def end(self, job: Job, state: str) -> None:
        """It ends by its holder's word."""
        self._end(job, "cancelled" if job.asked_to_stop else state)

    def cancel(self, job: Job) -> None:
        """Somebody cancels it."""
        if job.state == "running":
            job.asked_to_stop = True
        elif job.state in WAITING:
            self._end(job, "cancelled")

    def _again(self, job: Job, pause: int) -> None:
        job.run_at = self.now + pause
        job.state = "scheduled" if pause else "queued"

    def _end(self, job: Job, state: str) -> None:
        job.state = state

    # ---- time -------------------------------------------------------------------------------------------

    def next_due(self) -> int:
        """When time next changes something."""
        due = [job.started + TIMEOUT for job in self.running() if job.timeout]
        due += [job.run_at for job in self.waiting() if job.state == "scheduled"]
        due += [job.deadline for job in self.waiting() if job.deadline is not None]
        return min(due, default=self.now)

    def advance(self, by: int) -> list[Job]:
        """Time passes; tells whose attempts were overdue."""
        self.now += by
        overdue = [job for job in self.running() if job.timeout and job.started + TIMEOUT <= self.now]
        for job in overdue:
            if self.mistake == "a timeout is for good":
                self._end(job, "failed")
            else:
                self.fail(job)
        for job in self.waiting():
            late = job.deadline is not None and job.deadline <= self.now
            if late and self.mistake != "what is overdue runs":
                self._end(job, "expired")
            elif job.run_at <= self.now:
                job.state = "queued"
        return overdue

    # ---- ends and beginnings of processes ---------------------------------------------------------------

    def _reopen(self) -> None:
        for job in self.jobs:
            if job.refused:
                job.state = "forgotten"

    def stop(self) -> None:
        """A stop hands back what runs: that was no attempt."""
        self._reopen()
        for job in self.running():
            if job.asked_to_stop:
                self._end(job, "cancelled")
                continue
            job.state = "queued"
            if self.mistake != "a stop counts":
                job.attempt -= 1

    def crash(self) -> None:
        """The process is gone: what ran has had an attempt, and a death."""
        self._reopen()
        for job in self.running():
            job.crashes += self.mistake != "a crash is forgiven"
            if job.asked_to_stop:
                self._end(job, "cancelled")
            elif job.crashes >= MOST_CRASHES or job.attempt >= job.most:
                self._end(job, "failed")
            else:
                self._again(job, 0)
        if self.mistake == "a pause ends with the process":
            self.paused = False
