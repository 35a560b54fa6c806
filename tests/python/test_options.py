"""Options of dispatchers, kinds and pushes, and the durations in them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import forebay
import pytest
from conftest import LIMIT, Gate
from forebay import Dispatcher, _forebay

Opened = Callable[..., Dispatcher]


def test_every_option_takes_its_own_text() -> None:
    defaults: dict[str, Any] = Dispatcher().settings
    assert list(defaults) == _forebay.option_names()[0]
    assert (
        Dispatcher(**{name: text for name, text in defaults.items() if name != "dump_interval"}).settings
        == defaults
    )


def test_options_of_every_python_type(tmp_path: Path) -> None:
    d = Dispatcher(
        concurrency=3,
        grace=timedelta(minutes=2),
        timeout=1.5,
        retention="2h",
        lease=None,
        dump_file=tmp_path / "dump",
        dump_interval=60,
        on_full="block(5s)",
    )
    settings = d.settings
    assert [
        settings[n] for n in ("concurrency", "grace", "timeout", "retention", "lease", "dump_interval")
    ] == [
        "3",
        "2m",
        "1500ms",
        "2h",
        "none",
        "1m",
    ]
    assert settings["dump_file"] == str(tmp_path / "dump")
    assert Dispatcher("memory:?concurrency=5").concurrency == 5
    d.stop(0)


@pytest.mark.parametrize("five", ["5s", 5, 5.0, timedelta(seconds=5), "5000ms"], ids=str)
def test_five_seconds(d: Dispatcher, five: float | timedelta | str) -> None:
    for options in ({"delay": five}, {"run_at": five}):
        job = d.push("later", **options).job()  # type: ignore[arg-type]
        assert job.status == "scheduled"
        assert (job.run_at - job.created).total_seconds() == pytest.approx(5, abs=0.05)
    job = d.push("later", deadline=five, timeout=five).job()
    assert job.deadline is not None
    assert (job.deadline - job.created).total_seconds() == pytest.approx(5, abs=0.05)
    assert job.timeout == 5.0


@pytest.mark.parametrize(
    "bad", ["5", "five", "", -1, float("nan"), "5 parsecs", timedelta(seconds=-1)], ids=str
)
def test_what_is_no_duration(d: Dispatcher, bad: Any) -> None:
    with pytest.raises(ValueError, match="delay") as caught:
        d.push("later", delay=bad)
    assert isinstance(caught.value, forebay.InvalidError)
    assert d.len() == 0
    with pytest.raises(TypeError, match="give seconds"):
        d.push("later", delay=[])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="give seconds"):
        d.push("later", delay=True)


def test_no_slot_is_held_while_waiting(opened: Opened) -> None:
    d = opened(concurrency=1)
    d.handler(kind="now")(lambda: "ran")
    d.start()
    d.push("now", delay=60)
    assert d.handler(kind="now")(lambda: "ran").push().result(LIMIT) == "ran"


def test_instants(d: Dispatcher) -> None:
    at = datetime(2100, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    job = d.push("later", run_at=at, deadline=at + timedelta(days=1)).job()
    assert (job.run_at, job.deadline) == (at, at + timedelta(days=1))
    with pytest.raises(forebay.InvalidError, match="no time zone"):
        d.push("later", run_at=datetime(2100, 1, 1))
    past = d.push("later", run_at=datetime(2000, 1, 1, tzinfo=UTC)).job()
    assert past.status == "queued"


def test_everything_a_push_can_say(d: Dispatcher) -> None:
    noop = d.handler(kind="noop")(lambda: None)
    options: dict[str, Any] = {
        "queue": "other",
        "priority": -7,
        "delay": 60,
        "key": "k",
        "max_attempts": 9,
        "timeout": 3,
        "retry": "linear(2s)",
        "headers": {"trace": "abc", "tenant": "t"},
        "deadline": 600,
    }
    for handle in (
        d.push("noop", 1, **options),
        noop.options(**options | {"key": "k2"}).push(),
        *d.push_many([{"kind": "noop", "payload": 1, **options, "key": "k3"}]),
    ):
        job = handle.job()
        assert (job.queue, job.priority, job.max_attempts, job.timeout) == ("other", -7, 9, 3.0)
        assert job.headers == {"trace": "abc", "tenant": "t"}
        assert job.status == "scheduled"
        assert job.deadline is not None
    assert noop.push().job().queue == "default", "options make another handler"
    chained = noop.options(priority=3).options(queue="q").push().job()
    assert (chained.priority, chained.queue) == (3, "q")


def test_memory_reaches_what_memory_can(d: Dispatcher) -> None:
    noop = d.handler(kind="noop")(lambda: None)
    handles = [
        d.push("noop"),
        d.push("noop", durability="disk"),
        noop.options(durability="os").push(),
        *d.push_many([{"kind": "noop", "durability": "memory"}]),
    ]
    assert {h.durability for h in handles} == {"memory"}
    assert (d.durability, d.flush()) == ("memory", "memory")
    assert d.settings["durability"] == "disk", "what is asked for, not what is reached"


def test_an_id_of_the_callers_own(d: Dispatcher) -> None:
    first = d.push("x", id="01a1fa4b-69e4-7694-a8d8-eb128a7ee381")
    assert str(first.id) == "01a1fa4b-69e4-7694-a8d8-eb128a7ee381"
    assert not d.push("x", id=first.id).created
    assert d.get(str(first.id)).id == d.get(first).id == d.get(first.id).id == first.id


def test_options_of_a_kind(opened: Opened, gate: Gate) -> None:
    d = opened(concurrency=4, max_attempts=1)

    @d.handler(kind="one", concurrency=1, max_attempts=2, retry="constant(1ms)")
    def one(fail: bool = False) -> None:
        if fail:
            raise ValueError("again")
        gate.enter()

    d.start()
    handles = [one.push(), one.push()]
    gate.reached()
    d.handler(kind="other")(lambda: None).push().result(LIMIT)
    assert [h.status for h in handles] == ["running", "queued"]
    assert "limit" in d.explain(handles[1].id) or "1" in d.explain(handles[1].id)
    gate.open()
    with pytest.raises(forebay.JobFailed) as caught:
        one.push(fail=True).result(LIMIT)
    assert caught.value.attempts == 2


def test_a_timeout_frees_the_job_and_tells_the_handler(opened: Opened) -> None:
    d = opened(concurrency=2)
    reasons: list[str | None] = []

    @d.handler(pass_job=True, timeout=0.02, max_attempts=1)
    def slow(job: forebay.Job) -> str:
        while not job.cancelled:
            pass
        reasons.append(job.stop_reason)
        with pytest.raises(forebay.JobCancelled, match="timed_out"):
            job.check()
        return "too late"

    d.start()
    with pytest.raises(forebay.JobFailed) as caught:
        slow.push().result(LIMIT)
    assert caught.value.kind == "timed_out"
    d.drain(LIMIT)
    assert reasons == ["timed_out"]
    assert d.stats()["queues"]["default"]["stale"] == 1
