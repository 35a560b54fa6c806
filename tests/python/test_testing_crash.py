"""`forebay.testing.crash`: processes that die at a point, and what is in the file after that."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, get_args

import forebay
import pytest
from conftest import LIMIT
from forebay import Dispatcher, Handler, JobInfo
from forebay.testing import Crashed, Point, crash, note

JOBS = 6


def works(d: Dispatcher) -> None:
    """Pushes jobs one after the other, which run meanwhile."""
    work = d.handler(kind="work")(note)
    d.start()
    for n in range(JOBS):
        work.push(n)
    d.drain()


def one_by_one(d: Dispatcher) -> None:
    """Each job has run before the next is pushed."""
    work = d.handler(kind="work")(note)
    d.start()
    for n in range(JOBS):
        work.push(n).result()


program = Dispatcher()


@program.handler(max_attempts=3)
def work(n: int) -> None:
    note(n)


def the_program_works() -> None:
    with program:
        for n in range(JOBS):
            work.push(n)
        program.drain()


def jobs(d: Dispatcher) -> list[JobInfo]:
    return d.list(limit=100).jobs[::-1]


def finished(crashed: Crashed) -> tuple[list[JobInfo], list[Any]]:
    """Opens the file again, lets every job run to its end, and tells how they stand and what ran."""
    ran: list[Any] = []
    with Dispatcher(crashed.url) as d:
        d.handler(kind="work")(ran.append)
        d.drain(LIMIT)
        return jobs(d), ran


@pytest.mark.parametrize("nth", [1, 3])
@pytest.mark.parametrize("at", get_args(Point))
@pytest.mark.parametrize("function", [works, one_by_one, the_program_works])
def test_nothing_acknowledged_is_lost(
    function: Callable[..., None], at: Point, nth: int, tmp_path: Path
) -> None:
    if at in ("writing", "written") and function is not one_by_one:
        nth = 1  # How many groups there are is a matter of time.
    own: dict[str, Any] = {"dispatcher": program} if function is the_program_works else {}
    crashed = crash(function, at=at, nth=nth, url=tmp_path / "jobs.db", **own)
    assert crashed.at == at
    there, ran = finished(crashed)
    ids = [job.id for job in there]
    assert set(crashed.acknowledged) <= set(ids)
    # Every job that is there has run, before or after.
    assert sorted({*crashed.notes, *ran}) == list(range(len(ids)))
    assert {job.status for job in there} == {"succeeded"} if there else True
    # What was answered before does not run again.
    assert {job.attempt for job in there if job.id in crashed.answered} <= {1}


def test_before_a_push_is_written_there_is_nothing(tmp_path: Path) -> None:
    crashed = crash(one_by_one, at="push", url=tmp_path / "jobs.db")
    assert (crashed.acknowledged, crashed.claimed, finished(crashed)[0]) == ([], [], [])
    crashed = crash(one_by_one, at="writing", url=tmp_path / "other.db")
    assert (crashed.acknowledged, crashed.claimed, finished(crashed)[0]) == ([], [], [])


def test_a_job_may_be_there_although_nobody_was_told(tmp_path: Path) -> None:
    crashed = crash(one_by_one, at="written", url=tmp_path / "jobs.db")
    assert (crashed.acknowledged, crashed.claimed) == ([], [])
    assert finished(crashed)[1] == [0]


def test_after_a_push_is_answered_it_is_known(tmp_path: Path) -> None:
    crashed = crash(one_by_one, at="pushed", nth=3, url=tmp_path / "jobs.db")
    assert len(crashed.acknowledged) == 3
    assert [job.id for job in finished(crashed)[0]] == crashed.acknowledged


@pytest.mark.parametrize("at", ["claimed", "started", "returned"])
def test_an_attempt_that_died_is_made_again(at: Point, tmp_path: Path) -> None:
    crashed = crash(one_by_one, at=at, nth=2, url=tmp_path / "jobs.db")
    # The handler's own words show how far it came.
    assert crashed.notes == ([0, 1] if at == "returned" else [0])
    assert len(crashed.claimed) == 2
    there, ran = finished(crashed)
    assert ran == [1]
    assert [(job.id, job.attempt, job.crashes) for job in there][1] == (crashed.claimed[1], 2, 1)


def test_an_attempt_that_was_answered_is_not_made_again(tmp_path: Path) -> None:
    crashed = crash(one_by_one, at="answered", nth=2, url=tmp_path / "jobs.db")
    assert crashed.notes[:2] == [0, 1]
    assert crashed.answered == crashed.claimed[:2]
    there, ran = finished(crashed)
    assert not {0, 1} & set(ran)
    assert [job.attempt for job in there][:2] == [1, 1]


def test_the_last_answer_may_be_heard_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forebay.testing._crash._LATE", 0)
    crashed = crash(one_by_one, at="answered", nth=JOBS, url=tmp_path / "jobs.db")
    assert crashed.answered == crashed.claimed
    assert finished(crashed)[1] == []


class Whole:
    """A handler that is an object."""

    def __call__(self, n: int) -> None:
        note(n)

    def method(self, n: int) -> None:
        note(n)


class Fresh:
    """A class whose instances are handlers."""

    def __call__(self, n: int) -> None:
        note(n)


@pytest.mark.parametrize(
    "handler", [Whole(), Whole().method, partial(note), partial(Whole()), Fresh], ids=range(5)
)
def test_every_sort_of_handler_starts(handler: Any, tmp_path: Path) -> None:
    def function(d: Dispatcher) -> None:
        handled = d.handler(kind="work")(handler)
        with d:
            handled.push(1).result()
            handled.push(2).result()

    crashed = crash(function, at="started", nth=2, url=tmp_path / "jobs.db")
    assert crashed.notes == [1]
    # The other thread may not have heard yet that the push was answered.
    assert len(crashed.acknowledged) in (1, 2)


def test_a_built_in_function_starts(tmp_path: Path) -> None:
    def function(d: Dispatcher) -> None:
        told: list[int] = []
        handler: Handler[[int], None] = d.handler(kind="work")(told.append)
        with d:
            handler.push(1).result()
            note(told)
            handler.push(2).result()
            note(told)

    assert crash(function, at="started", nth=2, url=tmp_path / "jobs.db").notes == [[1]]


def test_dispatchers_that_the_function_opens_count(tmp_path: Path) -> None:
    def function(d: Dispatcher, name: str, *, more: int) -> None:
        other = Dispatcher(tmp_path / name)
        note(more)
        other.push("work", 1)

    crashed = crash(function, at="pushed", url=tmp_path / "jobs.db", args=["other.db"], kwargs={"more": 5})
    assert crashed.notes == [5]
    with Dispatcher(tmp_path / "other.db") as d:
        assert [job.id for job in jobs(d)] == crashed.acknowledged


def test_options_are_those_of_the_dispatcher(tmp_path: Path) -> None:
    def function(d: Dispatcher) -> None:
        note(d.settings["max_attempts"])
        d.push("work", 1)

    assert crash(function, at="push", url=tmp_path / "jobs.db", max_attempts=9).notes == ["9"]


def test_who_does_not_come_to_the_point_is_told(tmp_path: Path) -> None:
    url = tmp_path / "jobs.db"

    def twice(d: Dispatcher) -> None:
        d.push("work", 1)
        d.push("work", 2)

    def raises(d: Dispatcher) -> None:
        raise ValueError("on its own account")

    def hangs(d: Dispatcher) -> None:
        threading.Event().wait()

    def leaves(d: Dispatcher) -> None:
        os._exit(3)

    with pytest.raises(AssertionError, match=r'"pushed" 2 times, not 3: its function returned before'):
        crash(twice, at="pushed", nth=3, url=url)
    with pytest.raises(
        AssertionError, match=r'(?s)"claimed" 0 times, not 1: its function raised.*own account'
    ):
        crash(raises, at="claimed", url=url)
    with pytest.raises(AssertionError, match=r'"push" 0 times, not 1: it ran for longer than 0.2 s'):
        crash(hangs, at="push", url=url, timeout=0.2)
    with pytest.raises(AssertionError, match=r'did not come to the point "writing" 500 times'):
        crash(twice, at="writing", nth=500, url=url)
    with pytest.raises(AssertionError, match=r'"push" 0 times, not 1: it ended with 3'):
        crash(leaves, at="push", url=url)
    with pytest.raises(forebay.InvalidError, match="'nowhere' is no point; there are push, writing"):
        crash(twice, at="nowhere", url=url)  # type: ignore[arg-type]
    with pytest.raises(forebay.InvalidError, match="nth is 0"):
        crash(twice, at="push", nth=0, url=url)


def test_the_fixture_has_a_file_of_its_own(forebay_crash: Callable[..., Crashed]) -> None:
    crashed = forebay_crash(one_by_one, at="returned")
    assert finished(crashed)[1] == [0]


def test_notes_elsewhere_are_nobodys() -> None:
    note("nothing")


@pytest.mark.parametrize("at", ["claimed", "started", "returned", "answered"])
def test_coroutines_come_to_the_points_too(at: Point, tmp_path: Path) -> None:
    def function(d: Dispatcher) -> None:
        @d.handler(kind="work")
        async def work(n: int) -> None:
            await asyncio.sleep(0)
            note(n)

        with d:
            for n in range(3):
                work.push(n).result()

    crashed = crash(function, at=at, nth=2, url=tmp_path / "jobs.db")
    assert crashed.notes[:2] == ([0, 1] if at in ("returned", "answered") else [0])
    there, ran = finished(crashed)
    assert set(crashed.acknowledged) <= {job.id for job in there}
    assert (1 in ran) == (at != "answered")
