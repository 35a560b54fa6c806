"""What one queue has of its own, how full it is, and why nothing comes out of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import forebay
import pytest
from conftest import LIMIT, Gate
from forebay import Dispatcher, _forebay, _types

Opened = Callable[..., Dispatcher]


def test_the_types_name_every_option() -> None:
    _, queue, kind, _ = _forebay.option_names()
    assert list(_types.QueueOptions.__annotations__) == queue
    assert list(_types.KindOptions.__annotations__) == kind


def test_what_is_not_named_stays(d: Dispatcher) -> None:
    assert set(d.queue_options("mail").values()) == {"default"}
    d.configure_queue("mail", capacity=1000, on_full="drop_oldest", rate=100, delay_target=0.05)
    d.configure_queue("mail", key_concurrency=2, delay_interval=timedelta(seconds=1), newest_first=True)
    own = d.queue_options("mail")
    assert list(own) == _forebay.option_names()[1]
    assert {name: text for name, text in own.items() if text != "default"} == {
        "capacity": "1000",
        "on_full": "drop_oldest",
        "rate": "100/s",
        "delay_target": "50ms",
        "delay_interval": "1s",
        "newest_first": "true",
        "key_concurrency": "2",
    }
    d.configure_queue("mail", capacity=None, on_full="default", rate="none", newest_first=False)
    own = d.queue_options("mail")
    assert (own["capacity"], own["on_full"], own["rate"], own["delay_target"]) == (
        "default",
        "default",
        "none",
        "50ms",
    )
    assert set(d.queue_options().values()) == {"default"}, "of another queue nothing was said"


def test_all_of_it_or_nothing(d: Dispatcher) -> None:
    d.configure_queue("mail", capacity=5)
    for bad, error, text in (
        ({"capacity": 7, "capacty": 7}, forebay.NotFoundError, 'nearest is "capacity"'),
        ({"capacity": 7, "on_full": "explode"}, forebay.InvalidError, "option on_full"),
        ({"capacity": 7, "low_watermark": 0.9}, forebay.InvalidError, "low one below"),
        ({"capacity": 7, "rate": []}, TypeError, "option rate is a"),
        ({"capacity": 7, "concurrency": 0}, forebay.InvalidError, "pause the queue"),
        ({"capacity": 7, "on_full": "spill"}, forebay.UnsupportedError, "sqlite:PATH"),
    ):
        with pytest.raises(error, match=text):
            d.configure_queue("mail", **bad)
    assert d.queue_options("mail")["capacity"] == "5"


def test_every_option_of_a_queue_may_be_one_of_the_dispatcher(opened: Opened) -> None:
    d = opened(
        capacity_bytes=1_000_000,
        on_full="sample(0.1)",
        delay_target=0.05,
        delay_interval="200ms",
        newest_first=True,
        key_concurrency=3,
        key_rate=50,
        high_watermark=0.7,
        low_watermark=0.2,
        retry_budget="share(0.2, floor=1/s)",
    )
    settings = d.settings
    assert [settings[name] for name in ("delay_target", "delay_interval", "newest_first", "key_rate")] == [
        "50ms",
        "200ms",
        "true",
        "50/s",
    ]
    assert (settings["on_full"], settings["retry_budget"]) == ("sample(0.1)", "share(0.2, floor=1/s)")


def test_pressure_is_a_share(opened: Opened) -> None:
    d = opened(capacity=4)
    assert (d.pressure(), d.pressure("unheard of")) == (0.0, 0.0)
    d.push("k")
    assert d.pressure() == 0.25
    d.configure_queue("bytes", capacity_bytes=1000)
    d.push("k", b"x" * 500, queue="bytes")
    assert d.pressure("bytes") == 0.5
    d.push_many([("k", n) for n in range(3)])
    assert (d.pressure(), d.stats()["queues"]["default"]["pressure"]) == (1.0, 1.0)


def test_asking_for_the_pressure_does_not_detach(opened: Opened, tmp_path: Path) -> None:
    for d in (opened(capacity=2), opened(url=tmp_path / "jobs.db", capacity=2)):
        d.push("k")
        before = d.stats()["python"]["detaches"]
        assert {d.pressure() for _ in range(1000)} == {0.5}
        assert d.stats()["python"]["detaches"] == before


def test_a_file_that_others_write_is_asked(opened: Opened, tmp_path: Path) -> None:
    d, other = (opened(url=tmp_path / "jobs.db", shared=True, capacity=4) for _ in range(2))
    other.push("k")
    assert d.pressure() == 0.25
    assert "has 1 job that waits" in d.explain_queue()


def test_explain_queue_says_why_nothing_starts(opened: Opened, gate: Gate) -> None:
    d = opened(concurrency=1)
    with pytest.raises(forebay.NotFoundError, match="there is no queue"):
        d.explain_queue("unheard of")
    d.push("work", 1)
    assert "no handler" in d.explain_queue()
    d.handler(kind="work")(lambda n: gate.enter())
    d.pause()
    assert "paused" in d.explain_queue()
    d.resume()
    d.start()
    gate.reached()
    d.push("work", 2)
    assert "1 that runs: the dispatcher runs as many bodies as it may (1)" in d.explain_queue()


def test_a_queue_with_a_rate_starts_no_faster(opened: Opened) -> None:
    d = opened(concurrency=4)
    d.configure_queue("slow", rate="1/h burst=2")
    ran = threading.Semaphore(0)
    d.handler(kind="work")(lambda _: ran.release())
    d.start()
    handles = [d.push("work", queue="slow") for _ in range(5)]
    for _ in range(2):
        assert ran.acquire(timeout=LIMIT)
    d.push("work").result(LIMIT)
    # A handler that has said that it ran need not have ended.
    for handle in handles[:2]:
        handle.result(LIMIT)
    assert [handle.status for handle in handles] == ["succeeded"] * 2 + ["queued"] * 3
    assert "rate" in d.explain(handles[2])
    assert "rate" in d.explain_queue("slow")
    d.configure_queue("slow", rate="none")
    d.drain(LIMIT)
    assert {handle.status for handle in handles} == {"succeeded"}
