"""Random programs against the plain rules of `model.py`, over memory and files, with crashes and restarts.

Each run tries other programs, and prints how to try those again that fail. `FOREBAY_MODEL=50` tries fifty
times as many. In the same number of programs a model that is wrong in one rule has to be found.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar, TypeAlias, get_args

import forebay
import pytest
from forebay import Delivery, Dispatcher
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from model import FINAL, MOST_CRASHES, PAUSE, TIMEOUT, Job, Mistake, Model, OnFull

TIMES = int(os.environ.get("FOREBAY_MODEL", "1"))
START = 1_700_000_000_000
SECOND = 1_000
STEPS = 10
# Most mistakes are found within a dozen programs, but what a run draws is not drawn evenly.
IN_MEMORY_PROGRAMS = 600
FILE_PROGRAMS = 160
Push: TypeAlias = tuple[str, int, int, int, int | None, bool, str | None]
Serve: TypeAlias = tuple[bool, int, list[str] | None, bool, str, int]
PUSHES = st.tuples(
    st.sampled_from(["a", "b"]),
    st.integers(-1, 1),  # priority
    st.integers(1, 3),  # most attempts
    st.sampled_from([0, 0, 0, 0, 1, 3]),  # delay in seconds
    st.sampled_from([None, None, None, 1, 4]),  # deadline in seconds
    st.booleans(),  # whether it has a timeout
    st.sampled_from([None, None, "x", "y"]),  # key
)
HOW = ["hold", "hold", "complete", "complete", "fail", "fail", "retry", "snooze", "fatal", "cancel"]
SERVES = st.tuples(
    st.booleans(),  # whether it is one that is held already, if there is one
    st.integers(0, 5),  # which of those
    st.sampled_from([None, None, None, ["a"], ["b"], ["a", "b"]]),  # kinds
    st.sampled_from([False, False, True]),  # whether it is asked to stop first
    st.sampled_from(HOW),
    st.sampled_from([0, 1, 3]),  # pause in seconds
)
IN_MEMORY = [
    "due",
    "due",
    "just_before",
    "cancel",
    "cancel",
    "take_long",
    "purge",
    "pause_and_resume",
    "dump_and_restore",
]
IN_A_FILE = [
    "due",
    "take_long",
    "cancel",
    "stop",
    "crash",
    "crash",
    "stop_while_paused",
    "crash_while_paused",
]


class Queue(RuleBasedStateMachine):
    """What a program may do to a queue, done to a dispatcher and to the model."""

    durable = False
    own: ClassVar[dict[str, Any]] = {}
    mistake: Mistake | None = None
    seen: ClassVar[Counter[str]] = Counter()
    """What all programs have met."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.place = 0
        self.lives = 0
        self.ids: list[Any] = []
        self.held: dict[int, Delivery] = {}
        self.which = 0

    @initialize(on_full=st.sampled_from(get_args(OnFull)), capacity=st.integers(2, 4))
    def open(self, on_full: OnFull, capacity: int) -> None:
        self.begin(on_full, capacity)

    def begin(self, on_full: OnFull, capacity: int) -> None:
        self.model = Model(on_full, capacity, self.mistake)
        self.d = self.opened()
        self.seen["programs"] += 1

    def opened(self) -> Dispatcher:
        url = f"sqlite:{self.folder / str(self.place) / 'jobs.db'}" if self.durable else "memory:"
        (self.folder / str(self.place)).mkdir(exist_ok=True)
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

    def tick_until_alone(self, pause: int) -> None:
        """Nor are two jobs due at one time: which of them comes first is nowhere promised."""
        while any(job.run_at == self.model.now + pause for job in self.model.waiting()):
            self.tick()

    def move(self, by: int) -> None:
        self.d.advance(by / 1000)
        for job in self.model.advance(by):
            self.seen["timed out"] += 1
            delivery = self.held.pop(job.number)
            # The first reason is told.
            assert delivery.stop_reason == ("cancelled" if job.asked_to_stop else "timed_out")
            with pytest.raises(forebay.StaleLease):
                delivery.complete("late")

    @rule(
        pushes=st.lists(PUSHES, max_size=3),
        serves=st.lists(SERVES, max_size=3),
        then=st.sampled_from(IN_MEMORY),
        which=st.integers(0, 9),
    )
    def round(self, pushes: list[Push], serves: list[Serve], then: str, which: int) -> None:
        self.play(pushes, serves, then, which)

    def play(self, pushes: list[Push], serves: list[Serve], then: str, which: int) -> None:
        """A little of everything, so that few programs are without it."""
        self.seen["rounds"] += 1
        for push in pushes:
            self.tick()
            self.push_one(*push)
        for serve in serves:
            self.tick()
            self.serve_one(*serve)
        self.tick()
        self.which = which
        self.seen[then] += 1
        getattr(self, then)()

    # ---- pushing

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
        self.tick_until_alone(delay * SECOND)
        now, number = self.model.now, len(self.model.jobs)
        until = None if deadline is None else now + deadline * SECOND
        job = Job(kind, number, priority, most, now + delay * SECOND, until, timeout, key)
        options: dict[str, Any] = {"priority": priority, "max_attempts": most}
        if delay:
            options["delay"] = delay
        if deadline:
            options["deadline"] = deadline
        if timeout:
            options["timeout"] = TIMEOUT / 1000
        if key:
            options["key"] = key
        payload = key or "no key"
        there = self.model.with_key(key)
        if there is not None:
            self.seen["key held"] += 1
            if there.kind != kind:
                with pytest.raises(forebay.KeyConflict):
                    self.d.push(kind, payload, **options)
                return
            handle = self.d.push(kind, payload, **options)
            assert (handle.created, handle.id) == (False, self.ids[there.number])
            return
        answer = self.model.push(job)
        self.seen[f"push {answer}"] += 1
        if answer == "refused":
            with pytest.raises(forebay.QueueFull):
                self.d.push(kind, payload, **options)
            return
        handle = self.d.push(kind, payload, **options)
        assert handle.created
        self.ids.append(handle.id)
        assert (handle.shed is not None) == (answer == "shed")

    # ---- running

    def serve_one(
        self, old: bool, which: int, kinds: list[str] | None, stop: bool, how: str, pause: int
    ) -> None:
        if old and self.held:
            number = sorted(self.held)[which % len(self.held)]
        else:
            # Most claims should get a job; one in three may find that there is none.
            if self.model.next(kinds) is None and which % 3:
                self.push_one((kinds or ["a"])[0], 0, which, 0, None, True, None)
                self.tick()
            claimed = self.claim_one(kinds)
            if claimed is None:
                return
            number = claimed
        if stop:
            self.cancel_one(number)
            self.tick()
        self.tick_until_alone(PAUSE if how == "fail" else pause * SECOND)
        # A tick may have been what its timeout waited for.
        if how != "hold" and number in self.held:
            self.answer_one(number, how, pause)

    def claim_one(self, kinds: list[str] | None) -> int | None:
        expected = self.model.next(kinds)
        delivery = self.d.consumer(kinds).next(0)
        self.seen["claims"] += 1
        if expected is None:
            assert delivery is None
            return None
        self.seen["claims that got a job"] += 1
        assert delivery is not None
        if self.lives and delivery.id != self.ids[expected.number]:
            # Which of one priority comes first is not in the model once a file has been opened again.
            first, expected = expected, self.model.jobs[self.ids.index(delivery.id)]
            assert (expected.state, expected.priority) == ("queued", first.priority)
            assert kinds is None or expected.kind in kinds
        assert delivery.id == self.ids[expected.number], "another job comes first"
        self.model.claim(expected)
        self.held[expected.number] = delivery
        assert (delivery.attempt, delivery.max_attempts) == (expected.attempt, expected.most)
        assert (delivery.kind, delivery.priority) == (expected.kind, expected.priority)
        return expected.number

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
                delivery.retry(pause)
                self.model.fail(job, pause * SECOND)
            case "snooze":
                delivery.snooze(pause)
                self.model.snooze(job, pause * SECOND)
            case "fatal":
                delivery.fatal("never")
                self.model.end(job, "failed")
            case "cancel":
                delivery.cancel("no more")
                self.model.end(job, "cancelled")
        self.seen[f"{how}: {job.state}"] += 1

    def cancel_one(self, number: int) -> None:
        job = self.model.jobs[number]
        self.model.cancel(job)
        assert self.d.cancel(self.ids[number]) == job.state
        if number in self.held:
            assert self.held[number].cancelled

    # ---- what ends a round: time and operators

    def due(self) -> None:
        self.move(max(0, self.model.next_due() - self.model.now))

    def take_long(self) -> None:
        self.move(TIMEOUT)

    def just_before(self) -> None:
        self.move(max(0, self.model.next_due() - self.model.now - 1))

    def cancel(self) -> None:
        there = [job.number for job in self.model.jobs if job.state != "forgotten"]
        # The youngest ones are the interesting ones.
        if there:
            self.cancel_one(there[-1 - self.which % len(there)])

    def purge(self) -> None:
        waiting = self.model.waiting()
        assert self.d.purge() == len(waiting)
        for job in waiting:
            self.model.cancel(job)

    def pause_and_resume(self) -> None:
        self.pause()
        self.resume()

    def pause(self) -> None:
        self.model.paused = True
        self.d.pause()

    def resume(self) -> None:
        # Only a job that could run shows that there is a pause.
        if not any(job.state == "queued" for job in self.model.jobs):
            self.push_one("a", 0, 3, 0, None, True, None)
            self.tick()
        self.claim_one(None)
        self.model.paused = False
        self.d.resume()

    # ---- what ends a round: ends and beginnings

    def dump_and_restore(self) -> None:
        """What is not over goes on elsewhere; what is over stays behind."""
        for number in sorted(self.held):
            self.answer_one(number, "complete", 0)
        dump = self.folder / "dump"
        unfinished = [job for job in self.model.jobs if job.state not in FINAL]
        assert self.d.dump(dump) == len(unfinished)
        self.d.stop(0)
        self.ids = [self.ids[job.number] for job in unfinished]
        self.model.jobs = unfinished
        for number, job in enumerate(unfinished):
            job.number = number
        self.d = self.opened()
        assert self.d.restore(dump) == len(unfinished)
        assert self.d.restore(dump) == 0

    def hold_one(self) -> None:
        """Ends of processes are about what runs."""
        if not self.held and not self.model.paused:
            self.push_one("a", 0, 3, 0, None, True, None)
            self.tick()
            self.claim_one(None)

    def stop(self) -> None:
        self.hold_one()
        self.seen["held at a stop"] += len(self.held)
        report = self.d.stop(0)
        assert report.handed_back == sum(not job.asked_to_stop for job in self.model.running())
        self.model.stop()
        assert report.waiting == len(self.model.waiting())
        self.held.clear()
        self.reopen()

    def reopen(self) -> None:
        """A clock that stands still does what is due at the start only when it is asked.

        What ran past its deadline and went back to the queue expires then.
        """
        self.lives += 1
        self.d = self.opened()
        self.move(0)

    def crash(self) -> None:
        """What a killed process leaves is what its file is at that moment."""
        self.hold_one()
        self.seen["held at a crash"] += len(self.held)
        before, old = self.folder / str(self.place), self.d
        self.place += 1
        shutil.copytree(before, self.folder / str(self.place))
        self.model.crash()
        self.held.clear()
        old.stop(0)
        self.reopen()

    def stop_while_paused(self) -> None:
        self.pause()
        self.stop()
        self.resume()

    def crash_while_paused(self) -> None:
        self.pause()
        self.crash()
        self.resume()

    # ---- what always holds

    @invariant()
    def the_jobs_are_as_they_should_be(self) -> None:
        if not hasattr(self, "d"):
            return
        for job in self.model.jobs:
            if job.state == "forgotten":
                with pytest.raises(forebay.NotFoundError):
                    self.d.get(self.ids[job.number])
                continue
            info = self.d.get(self.ids[job.number])
            at = round(info.run_at.timestamp() * 1000) - START
            due = job.run_at if job.state in ("scheduled", "queued") else at
            found = (info.status, info.attempt, info.crashes, at, info.cancel_requested)
            asked = job.asked_to_stop and job.state == "running"
            assert found == (job.state, job.attempt, job.crashes, due, asked), (found, due, job)
        assert self.d.len() == len(self.model.waiting())
        known = [job for job in self.model.jobs if job.state != "forgotten"]
        assert self.d.list(status=("queued", "scheduled", "running", *FINAL), limit=1).total == len(known)


class QueueInAFile(Queue):
    durable = True
    own: ClassVar[dict[str, Any]] = {"sync_done": True, "durability": "os", "control": "false"}

    @rule(
        pushes=st.lists(PUSHES, max_size=3),
        serves=st.lists(SERVES, max_size=3),
        then=st.sampled_from(IN_A_FILE),
        which=st.integers(0, 9),
    )
    def round(self, pushes: list[Push], serves: list[Serve], then: str, which: int) -> None:
        self.play(pushes, serves, then, which)

    # The other two drop by that order, which is not in the model once a file has been opened again.
    @initialize(on_full=st.sampled_from(["reject", "drop_newest"]), capacity=st.integers(2, 4))
    def open(self, on_full: OnFull, capacity: int) -> None:
        self.begin(on_full, capacity)


Queue.TestCase.settings = QueueInAFile.TestCase.settings = settings(deadline=None)


def programs(count: int, *, find: bool = False) -> settings:
    return settings(
        max_examples=count,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        phases=(Phase.generate,) if find else (Phase.generate, Phase.shrink),
        report_multiple_bugs=False,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    Queue.seen.clear()


@pytest.mark.timeout(300 * TIMES)
def test_random_programs_find_no_difference_in_memory() -> None:
    run_state_machine_as_test(Queue, settings=programs(IN_MEMORY_PROGRAMS * TIMES))
    seen = Queue.seen
    assert seen["claims that got a job"] > seen["claims"] // 2, seen
    ways = [
        "complete: succeeded",
        "fail: failed",
        "fail: scheduled",
        "snooze: scheduled",
        "timed out",
        "push shed",
    ]
    assert all(seen[way] for way in ways), seen


@pytest.mark.timeout(300 * TIMES)
def test_random_programs_find_no_difference_in_files() -> None:
    run_state_machine_as_test(QueueInAFile, settings=programs(FILE_PROGRAMS * TIMES))
    assert all(Queue.seen[way] for way in ("held at a crash", "held at a stop")), Queue.seen


@pytest.mark.parametrize("mistake", get_args(Mistake))
def test_a_mistake_would_be_found(mistake: Mistake) -> None:
    in_file = mistake in ("a crash is forgiven", "a stop counts", "a pause ends with the process")
    base, count = (QueueInAFile, FILE_PROGRAMS) if in_file else (Queue, IN_MEMORY_PROGRAMS)
    wrong = type("Wrong", (base,), {"mistake": mistake})
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        run_state_machine_as_test(wrong, settings=programs(count, find=True))
