"""Workers that serve some queues only."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import forebay
import pytest
from conftest import LIMIT
from forebay import Dispatcher

Opened = Callable[..., Dispatcher]


@pytest.mark.parametrize("how", ["start", "serve", "run", "arun", "async with"])
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_the_others_are_left(opened: Opened, how: str, is_async: bool) -> None:
    # One, so that whoever starts it has done so when a job has run, and a stop finds it started.
    d = opened(concurrency=1)

    async def later(n: int) -> int:
        return n

    work: Any = d.handler(kind="work")(later if is_async else lambda n: n)
    other = work.options(queue="c").push(1)
    served = [work.options(queue=queue).push(2) for queue in ("a", "b", "a")]

    async def on_a_loop() -> None:
        if how == "arun":
            running = asyncio.create_task(d.arun(queues=["a", "b"]))
            await forebay.gather(*served)
            d.request_stop()
            await running
        else:
            d.serve(["a", "b"])
            with pytest.warns(RuntimeWarning, match="1 jobs still waited"):
                async with d:
                    await forebay.gather(*served)

    if how == "start":
        d.start(queues=["a", "b"])
    elif how == "serve":
        d.serve(("a", "b"))
        d.start()
    elif how == "run":
        thread = threading.Thread(target=d.run, kwargs={"queues": ["a", "b"]})
        thread.start()
    else:
        asyncio.run(asyncio.wait_for(on_a_loop(), LIMIT))
    assert [handle.result(LIMIT) for handle in served] == [2, 2, 2]
    if how in ("start", "serve"):
        assert 'no worker here serves queue "c"' in d.explain(other.id)
    assert other.status == "queued"
    d.stop()
    if how == "run":
        thread.join(LIMIT)


def test_it_is_said_once_and_in_time(opened: Opened) -> None:
    d = opened()
    d.handler(kind="work")(print)
    with pytest.raises(forebay.InvalidError, match="name one"):
        d.start(queues=[])
    with pytest.raises(TypeError):
        d.serve("mail")
    d.start(queues=["mail"])
    d.start()
    with pytest.raises(forebay.InvalidError, match="say it once, before they start"):
        d.serve(["mail"])
    with pytest.raises(forebay.InvalidError, match="say it once, before they start"):
        d.start(queues=["other"])


def test_a_consumer_of_ones_own_takes_what_it_likes(opened: Opened) -> None:
    d = opened()
    d.serve(["a"])
    d.start()
    d.push("work", queue="b")
    delivery = d.consumer().next(LIMIT)
    assert delivery is not None
    delivery.complete()
