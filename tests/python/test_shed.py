"""Full queues that shed: who goes, who is told, and what is left of it."""

from __future__ import annotations

import asyncio
import gc
import pickle
import threading
import weakref
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forebay
import pytest
from conftest import LIMIT
from forebay import Dispatcher

from scripts import ROUNDS, run

Opened = Callable[..., Dispatcher]

REASONS = ("shed_newest", "shed_oldest", "shed_lowest", "shed_coalesced", "shed_sampled", "shed_delayed")


def counts(d: Dispatcher, queue: str = "default") -> dict[str, Any]:
    found: dict[str, Any] = d.stats()["queues"][queue]
    return found


def left(d: Dispatcher) -> list[Any]:
    """The payloads that wait, in the order they came."""
    return [job.payload for job in reversed(d.list(status="queued", limit=1000).jobs)]


def balanced(d: Dispatcher) -> None:
    c = counts(d)
    assert c["shed"] == sum(c[reason] for reason in REASONS)
    ended = sum(c[end] for end in ("succeeded", "failed", "cancelled", "expired", "shed"))
    waiting = c["blocked"] + c["scheduled"] + c["queued"] + c["running"]
    assert c["pushed"] + c["restored"] == ended + waiting


def test_who_goes_when_it_is_full(opened: Opened) -> None:
    for policy, pushes, stays, gone in (
        ("drop_newest", [(n, 0, None) for n in range(4)], [0, 1], {2: "shed_newest", 3: "shed_newest"}),
        ("drop_oldest", [(n, 0, None) for n in range(4)], [2, 3], {0: "shed_oldest", 1: "shed_oldest"}),
        (
            "drop_lowest",
            [(0, 1, None), (1, 3, None), (2, 2, None), (3, 2, None)],
            [1, 2],
            {0: "shed_lowest", 3: "shed_lowest"},
        ),
        (
            "coalesce",
            [(0, 0, "a"), (1, 0, "b"), (2, 0, "a"), (3, 0, "a")],
            [1, 3],
            {0: "shed_coalesced", 2: "shed_coalesced"},
        ),
        ("sample(0)", [(n, 0, None) for n in range(4)], [0, 1], {2: "shed_sampled", 3: "shed_sampled"}),
        ("sample(1)", [(n, 0, None) for n in range(4)], [2, 3], {0: "shed_oldest", 1: "shed_oldest"}),
    ):
        d = opened(capacity=2, on_full=policy)
        handles = [d.push("k", n, priority=p, concurrency_key=key) for n, p, key in pushes]
        assert left(d) == stays, policy
        shed = {n: h.job().shed for n, h in enumerate(handles) if h.status == "shed"}
        assert shed == gone, policy
        # What the push itself says is only of jobs that were shed as they came.
        assert {h.shed for h in handles} <= {None, *gone.values()}
        assert all(h.job().shed == h.shed for h in handles if h.shed), policy
        balanced(d)


def test_a_push_tells_that_it_was_shed(opened: Opened) -> None:
    d = opened(capacity=1, on_full="drop_newest")
    first, second = d.push("k", 1), d.push("k", 2)
    assert (first.shed, first.status) == (None, "queued")
    assert (second.shed, second.status, second.created) == ("shed_newest", "shed", True)
    with pytest.raises(
        forebay.Shed, match="ended as shed after 0 attempts, shed_newest: the queue was full"
    ) as caught:
        second.result()
    error = caught.value
    assert (error.reason, error.kind, error.attempts, error.job_id) == (
        "shed_newest",
        "shed_newest",
        0,
        second.id,
    )
    assert (error.code, error.job_kind) == (22, "k")
    assert isinstance(error, forebay.JobFailed)
    assert pickle.loads(pickle.dumps(error)).reason == "shed_newest"
    many = d.push_many([("k", 3), {"kind": "k", "payload": 4}])
    assert [h.shed for h in many] == ["shed_newest"] * 2
    assert d.list(status="shed").total == 3
    assert "shed" in d.explain(second)
    assert (second.cancel(), first.cancel()) == ("shed", "cancelled")


def hears(handle: forebay.Handle[Any], heard: list[str]) -> None:
    try:
        handle.result(LIMIT)
    except forebay.Shed as shed:
        heard.append(shed.reason)


def test_a_thread_that_waits_hears_that_its_job_was_shed(opened: Opened) -> None:
    d = opened(capacity=1, on_full="drop_oldest")
    for _ in range(ROUNDS):
        handle = d.push("k")
        heard: list[str] = []
        waiting = threading.Thread(target=hears, args=(handle, heard))
        waiting.start()
        d.push("k")
        waiting.join(LIMIT)
        assert heard == ["shed_oldest"]


class Thing:
    """Something that can be seen to go."""


@pytest.mark.parametrize("policy", ["drop_newest", "drop_oldest", "sample(0.5)"])
def test_what_a_shed_job_carried_is_let_go(opened: Opened, policy: str) -> None:
    d = opened(capacity=10, on_full=policy)
    things = []
    for _ in range(100):
        thing = Thing()
        things.append(weakref.ref(thing))
        d.push("k", thing)
        del thing
    d.stats()
    gc.collect()
    alive = sum(thing() is not None for thing in things)
    assert (alive, d.len(), counts(d)["shed"]) == (10, 10, 90)


@pytest.mark.parametrize("policy", ["drop_newest", "drop_oldest", "sample(0.3)"])
def test_threads_that_push_too_much_lose_count_of_nothing(opened: Opened, policy: str) -> None:
    many_threads_push_too_much(opened(capacity=50, on_full=policy, concurrency=2), 1000)


@pytest.mark.parametrize("level", ["memory", "disk"])
def test_they_lose_no_count_in_a_file(opened: Opened, tmp_path: Path, level: str) -> None:
    options = {"capacity": 20, "on_full": "drop_oldest", "concurrency": 2, "durability": level}
    many_threads_push_too_much(opened(url=tmp_path / "jobs.db", **options), 100)
    again = opened(url=tmp_path / "jobs.db")
    assert again.len() == 0
    known = again.list(status=("shed", "succeeded")).total
    assert known == 400 if level == "disk" else known <= 400


def many_threads_push_too_much(d: Dispatcher, each: int) -> None:
    ran: Counter[str] = Counter()
    d.handler(kind="note")(lambda who: ran.update([who]))
    pushed: list[list[forebay.Handle[Any]]] = [[] for _ in range(4)]

    def pushes(who: int) -> None:
        pushed[who] += [d.push("note", f"{who} {n}") for n in range(each)]

    threads = [threading.Thread(target=pushes, args=(who,)) for who in range(4)]
    d.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    d.drain(LIMIT)
    balanced(d)
    ends = Counter(handle.status for handles in pushed for handle in handles)
    assert ends["succeeded"] + ends["shed"] == 4 * each
    assert ends["succeeded"] == len(ran) == sum(ran.values()), "what was shed did not run, and the rest once"
    assert counts(d)["shed"] == ends["shed"]
    d.stop()


def test_events_tell_of_it(opened: Opened) -> None:
    d = opened(capacity=2, on_full="drop_oldest", high_watermark=0.9, low_watermark=0.4)
    events = d.subscribe()
    first = d.push("k")
    d.push("k")
    d.push("k")
    d.purge()
    seen = events.drain()
    kinds = [event.kind for event in seen]
    assert kinds.count("shed") == 1
    shed = next(event for event in seen if event.kind == "shed")
    assert (shed.id, shed.failure, shed.queue, shed.job_kind) == (first.id, "shed_oldest", "default", "k")
    marks = [(event.kind, event.queue) for event in seen if "watermark" in event.kind]
    assert marks == [("high_watermark", "default"), ("low_watermark", "default")]


def test_bytes_are_bounded_too(opened: Opened) -> None:
    d = opened(capacity_bytes=1000)
    d.push_many([("k", b"x" * 400), ("k", b"x" * 400), ("k", {"no": "length"})])
    with pytest.raises(forebay.QueueFull, match="bytes"):
        d.push("k", b"x" * 201)
    with pytest.raises(forebay.InvalidError, match="capacity_bytes"):
        d.push("k", b"x" * 1001)
    d.configure_queue("default", on_full="drop_oldest")
    d.push("k", b"y" * 700)
    assert left(d) == [{"no": "length"}, b"y" * 700], "as many go as weigh enough"
    balanced(d)


def test_a_push_to_a_full_queue_holds_up_no_loop(opened: Opened, tmp_path: Path) -> None:
    for d in (
        opened(capacity=3, on_full="drop_oldest"),
        opened(url=tmp_path / "jobs.db", capacity=3, on_full="drop_oldest"),
    ):

        async def main(d: Dispatcher = d) -> None:
            handles = await asyncio.gather(*(d.apush("k", n) for n in range(50)))
            assert all(handle.created for handle in handles)
            assert d.len() == 3
            balanced(d)

        asyncio.run(asyncio.wait_for(main(), LIMIT))


def test_the_interpreter_ends_while_jobs_are_shed() -> None:
    for _ in range(ROUNDS):
        code, out, err = run(
            """
            d = forebay.Dispatcher(concurrency=2, capacity=10, on_full="drop_oldest", grace="600s")
            enough = threading.Semaphore(0)

            @d.handler
            def work(thing):
                enough.release()
                for _ in range(20):
                    d.push("work", object())

            d.start()
            d.push("work", object())
            for _ in range(200):
                assert enough.acquire(timeout=60)
            shed = d.stats()["queues"]["default"]["shed_oldest"]
            say("shed" if shed > 100 else f"only {shed}")
            """
        )
        assert (code, out, err) == (0, "shed\n", "")
