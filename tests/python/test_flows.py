"""Jobs with a concurrency key: flows that take turns."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forebay
from conftest import LIMIT, Gate
from forebay import Dispatcher

Opened = Callable[..., Dispatcher]


def test_every_way_to_push_takes_a_key(opened: Opened, tmp_path: Path) -> None:
    for d in (opened(), opened(url=tmp_path / "jobs.db"), opened(url=tmp_path / "shared.db", shared=True)):
        noop = d.handler(kind="noop", pass_job=True)(lambda job: job.concurrency_key)
        handles: list[forebay.Handle[Any]] = [
            d.push("noop", {"args": [], "kwargs": {}}, concurrency_key="a"),
            noop.options(concurrency_key="a").push(),
            *d.push_many([{"kind": "noop", "concurrency_key": "a"}]),
        ]
        assert [h.job().concurrency_key for h in handles] == ["a"] * 3
        assert [job.concurrency_key for job in d.list(kind="noop").jobs] == ["a"] * 3
        assert noop.push().job().concurrency_key is None
        d.start()
        assert handles[1].result(LIMIT) == "a"


def test_a_noisy_key_starves_nobody(opened: Opened) -> None:
    d = opened(concurrency=1)
    order: list[str] = []
    d.handler(kind="note")(order.append)
    for _ in range(50):
        d.push("note", "noisy", concurrency_key="noisy")
    for _ in range(3):
        d.push("note", "quiet", concurrency_key="quiet")
    d.push("note", "none")
    d.start()
    d.drain(LIMIT)
    assert len(order) == 54
    assert set(order[:3]) == {"noisy", "quiet", "none"}
    assert order[:7].count("quiet") >= 2


def test_as_many_of_a_key_as_may(opened: Opened, gate: Gate) -> None:
    d = opened(concurrency=4)
    d.configure_queue("default", key_concurrency=1)
    running: list[str] = []
    lock = threading.Lock()

    @d.handler
    def work(key: str) -> None:
        with lock:
            running.append(key)
        gate.enter()

    handles = [work.options(concurrency_key=key).push(key) for key in "aaabb"]
    d.start()
    gate.reached()
    gate.reached()
    assert sorted(running) == ["a", "b"]
    assert [handle.status for handle in handles] == ["running", "queued", "queued", "running", "queued"]
    why = d.explain(handles[1])
    assert '"a"' in why
    gate.open()
    d.drain(LIMIT)
    assert {handle.status for handle in handles} == {"succeeded"}
