"""Random programs against the plain rules of `model.py`, over memory and files, with crashes and restarts.

The gate tries the same few in memory each time; `FOREBAY_MODEL=1000` tries so many new ones, in files too.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, ClassVar, TypeAlias, get_args

import forebay
import pytest
from forebay import Delivery, Dispatcher
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from model import FINAL, MOST_CRASHES, PAUSE, TIMEOUT, Job, Mistake, Model, OnFull

NIGHTLY = "FOREBAY_MODEL" in os.environ
PROGRAMS = int(os.environ.get("FOREBAY_MODEL", "12"))
START = 1_700_000_000_000
KINDS = ["a", "b"]
RUNNERS = st.sampled_from([None, None, ["a"], ["b"], KINDS])
ENDED = [state for state in FINAL if state != "shed"]
Push: TypeAlias = tuple[str, int, int, int, int | None, bool, str | None]
QUICKLY_FOUND: list[Mistake] = ["a cancelled key is kept", "one more fits in"]
"""Mistakes that a few programs show; the others take hundreds."""
PUSHES = st.tuples(
    st.sampled_from(KINDS),
    st.integers(-1, 2),  # priority
    st.integers(1, 3),  # most attempts
    st.sampled_from([0, 0, 0, 1_500, 10_000]),  # delay
    st.sampled_from([None, None, None, 1_000, 4_000]),  # deadline
    st.booleans(),  # whether it has a timeout
    st.sampled_from([None, None, "x", "y"]),  # key
)
HOW = ["complete", "complete", "fail", "fail", "retry", "snooze", "fatal", "cancel"]
ANSWERS = st.tuples(st.integers(0, 9), st.sampled_from(HOW), st.sampled_from([0, 700, 3_000]))


class Queue(RuleBasedStateMachine):
    """What a program may do to a queue, done to a dispatcher and to the model."""

    url = "memory:"
    durable = False
    own: ClassVar[dict[str, Any]] = {}
    mistake: Mistake | None = None

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.lives = 0
        self.ids: list[Any] = []
        self.held: dict[int, Delivery] = {}
        self.stale: list[Delivery] = []

    @initialize(on_full=st.sampled_from(get_args(OnFull)), capacity=st.integers(2, 8))
    def open(self, on_full: OnFull, capacity: int) -> None:
        self.model = Model(on_full, capacity, self.mistake)
        self.d = self.opened()

    def opened(self) -> Dispatcher:
        url = f"sqlite:{self.folder / str(self.lives) / 'jobs.db'}" if self.durable else "memory:"
        (self.folder / str(self.lives)).mkdir(exist_ok=True)
        return Dispatcher(
            url,
            clock=f"manual({START + self.model.now})",
            capacity=self.model.capacity,
            on_full=self.model.on_full,
            retry=f"constant({PAUSE}ms)",
            concurrency=1000,
            max_crashes=MOST_CRASHES,
            retention="1000d",
            retention_failed="1000d",
            **self.own,
        )

    def teardown(self) -> None:
        if hasattr(self, "d"):
            self.held.clear()
            self.d.stop(0)
        shutil.rmtree(self.folder)

    def tick(self) -> None:
        """No two things happen at one time: what comes first is then known."""
        self.move(1)

    def move(self, by: int) -> None:
        self.d.advance(by / 1000)
        for job in self.model.advance(by):
            delivery = self.held.pop(job.number)
            assert delivery.stop_reason == "timed_out"
            self.stale.append(delivery)

    # ---- pushing

    @rule(jobs=st.lists(PUSHES, min_size=1, max_size=4))
    def push(self, jobs: list[Push]) -> None:
        for job in jobs:
            self.tick()
            self.push_one(*job)

    def push_one(
        self,
        kind: str,
        priority: int,
        most: int,
        delay: int,
        deadline: int | None,
        timeout: bool,
        key: str | None,
    ) -> None:
        now, number = self.model.now, len(self.model.jobs)
        job = Job(
            kind,
            number,
            priority,
            most,
            now + delay,
            None if deadline is None else now + deadline,
            timeout,
            key,
        )
        options: dict[str, Any] = {"priority": priority, "max_attempts": most}
        if delay:
            options["delay"] = delay / 1000
        if deadline:
            options["deadline"] = deadline / 1000
        if timeout:
            options["timeout"] = TIMEOUT / 1000
        if key:
            options["key"] = key
        there = self.model.with_key(key)
        if there is not None:
            if there.kind != kind:
                with pytest.raises(forebay.KeyConflict):
                    self.d.push(kind, key, **options)
                return
            handle = self.d.push(kind, key, **options)
            assert (handle.created, handle.id) == (False, self.ids[there.number])
            return
        answer = self.model.push(job)
        if answer == "refused":
            with pytest.raises(forebay.QueueFull):
                self.d.push(kind, key or number, **options)
            return
        handle = self.d.push(kind, key or number, **options)
        assert handle.created
        self.ids.append(handle.id)
        assert (handle.shed is not None) == (answer == "shed")

    # ---- running

    @rule(kinds=RUNNERS, most=st.integers(1, 4))
    def claim(self, kinds: list[str] | None, most: int) -> None:
        for _ in range(most):
            self.claim_one(kinds)

    def claim_one(self, kinds: list[str] | None) -> None:
        self.tick()
        expected = self.model.next(kinds)
        delivery = self.d.consumer(kinds).next(0)
        if expected is None:
            assert delivery is None
            return
        assert delivery is not None
        assert delivery.id == self.ids[expected.number], "another job comes first"
        self.model.claim(expected)
        self.held[expected.number] = delivery
        assert (delivery.attempt, delivery.max_attempts) == (expected.attempt, expected.most)
        assert delivery.priority == expected.priority

    @rule(answers=st.lists(ANSWERS, min_size=1, max_size=3))
    def answer(self, answers: list[tuple[int, str, int]]) -> None:
        for which, how, pause in answers:
            self.tick()
            if self.held:
                self.answer_one(sorted(self.held)[which % len(self.held)], how, pause)

    def answer_one(self, number: int, how: str, pause: int) -> None:
        delivery, job = self.held.pop(number), self.model.jobs[number]
        match how:
            case "complete":
                delivery.complete(number)
                self.model.complete(job)
            case "fail":
                delivery.fail("no")
                self.model.fail(job)
            case "retry":
                delivery.retry(pause / 1000)
                self.model.fail(job, pause)
            case "snooze":
                delivery.snooze(pause / 1000)
                self.model.snooze(job, pause)
            case "fatal":
                delivery.fatal("never")
                self.model.end(job, "failed")
            case "cancel":
                delivery.cancel("no more")
                self.model.end(job, "cancelled")

        while self.stale:
            with pytest.raises(forebay.StaleLease):
                self.stale.pop().complete("late")

    @rule(which=st.integers(0, 99))
    def cancel(self, which: int) -> None:
        self.tick()
        if not self.ids:
            return
        # Those that run are the interesting ones.
        of = sorted(self.held) if which % 2 and self.held else range(len(self.ids))
        job = self.model.jobs[of[which % len(of)]]
        self.model.cancel(job)
        assert self.d.cancel(self.ids[job.number]) == job.state
        if job.number in self.held:
            assert self.held[job.number].cancelled

    # ---- time and operators

    @rule(by=st.sampled_from([1, 500, 1_000, 2_000, 5_000, 20_000]))
    def advance(self, by: int) -> None:
        self.move(by)

    @rule(what=st.sampled_from(["pause or resume", "pause or resume", "purge"]))
    def operate(self, what: str) -> None:
        self.tick()
        if what == "purge":
            waiting = self.model.waiting()
            assert self.d.purge() == len(waiting)
            for job in waiting:
                self.model.cancel(job)
            return
        self.model.paused = not self.model.paused
        (self.d.pause if self.model.paused else self.d.resume)()

    # ---- ends and beginnings

    def given_up(self) -> None:
        """Nobody answers any more for what was held."""
        self.held.clear()
        self.stale.clear()

    @precondition(lambda self: self.durable)
    @rule()
    def stop_and_start(self) -> None:
        report = self.d.stop(0)
        assert report.handed_back == sum(not job.asked_to_stop for job in self.model.running())
        self.model.stop()
        assert report.waiting == len(self.model.waiting())
        self.given_up()
        self.d = self.opened()

    @precondition(lambda self: self.durable)
    @rule()
    def crash_and_start(self) -> None:
        # What a killed process leaves is what its file is at that moment.
        before, old = self.folder / str(self.lives), self.d
        self.lives += 1
        shutil.copytree(before, self.folder / str(self.lives), ignore=shutil.ignore_patterns("*.sock"))
        self.model.crash()
        self.given_up()
        old.stop(0)
        self.d = self.opened()
        self.d.advance(0)

    @precondition(lambda self: not self.durable and not self.model.running())
    @rule()
    def dump_and_restore(self) -> None:
        """What is not over goes on elsewhere; what is over stays behind."""
        dump, paused = self.folder / "dump", self.model.paused
        unfinished = [job for job in self.model.jobs if job.state not in FINAL]
        assert self.d.dump(dump) == len(unfinished)
        self.d.stop(0)
        kept = [self.ids[job.number] for job in unfinished]
        self.model.jobs, self.ids = unfinished, kept
        for number, job in enumerate(unfinished):
            job.number = number
        self.given_up()
        self.d = self.opened()
        assert self.d.restore(dump) == len(unfinished)
        assert self.d.restore(dump) == 0
        if paused:
            self.d.pause()

    # ---- what always holds

    @invariant()
    def the_jobs_are_as_they_should_be(self) -> None:
        if not hasattr(self, "d"):
            return
        for job in self.model.jobs:
            try:
                info = self.d.get(self.ids[job.number])
            except forebay.NotFoundError:
                # What was shed may be forgotten before its time.
                assert job.state == "shed"
                continue
            at = round(info.run_at.timestamp() * 1000) - START
            due = job.run_at if job.state == "scheduled" else at
            found = (info.status, info.attempt, info.crashes, at, info.cancel_requested)
            asked = job.asked_to_stop and job.state == "running"
            assert found == (job.state, job.attempt, job.crashes, due, asked), (job.number, job)
        assert self.d.len() == len(self.model.waiting())
        kept = [job for job in self.model.jobs if job.state != "shed"]
        assert self.d.list(status=("queued", "scheduled", "running", *ENDED), limit=1).total == len(kept)


class QueueInAFile(Queue):
    durable = True
    own: ClassVar[dict[str, Any]] = {"sync_done": True, "durability": "os", "write_behind": "1ms"}


Queue.TestCase.settings = QueueInAFile.TestCase.settings = settings(deadline=None)


def programs(count: int, *, steps: int = 30, find: bool = False) -> settings:
    phases = (Phase.generate,) if find else (Phase.generate, Phase.shrink)
    return settings(
        max_examples=count,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        phases=phases,
        derandomize=not NIGHTLY,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )


@pytest.mark.timeout(600 + PROGRAMS)
@pytest.mark.parametrize("machine", [Queue, QueueInAFile] if NIGHTLY else [Queue])
def test_random_programs_find_no_difference(machine: type[Queue]) -> None:
    run_state_machine_as_test(machine, settings=programs(PROGRAMS))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mistake", get_args(Mistake) if NIGHTLY else QUICKLY_FOUND)
def test_a_mistake_would_be_found(mistake: Mistake) -> None:
    in_file = mistake in ("a crash is forgiven", "a stop counts", "a pause ends with the process")
    base = QueueInAFile if in_file else Queue
    wrong = type("Wrong", (base,), {"mistake": mistake})
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        run_state_machine_as_test(wrong, settings=programs(3_000 if NIGHTLY else 60, find=True))
