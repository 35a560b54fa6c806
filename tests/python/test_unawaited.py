"""Handlers that return a coroutine instead of awaiting it: their work was not done, and that is told."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import LIMIT
from forebay import Dispatcher, JobFailed
from forebay.testing import Stage


async def work() -> str:
    await asyncio.sleep(0)
    return "done"


@functools.wraps(work)
def decorated() -> Any:
    return work()


async def forgotten() -> Any:
    return work()


@pytest.mark.parametrize("function", [decorated, lambda: work(), forgotten])
@pytest.mark.parametrize("url", ["memory:", "sqlite:{}/jobs.db"])
def test_a_coroutine_is_no_result(url: str, function: Callable[[], Any], tmp_path: Path) -> None:
    with Dispatcher(url.format(tmp_path), max_attempts=1) as d:
        handle = d.handler(kind="work")(function).push()
        with pytest.raises(JobFailed, match="a coroutine, which nobody awaits"):
            handle.result(LIMIT)


def test_a_stage_tells_so_too() -> None:
    with Stage(max_attempts=1) as stage:
        handle = stage.dispatcher.handler(kind="work")(decorated).push()
        stage.drain()
        assert "a coroutine, which nobody awaits" in (handle.job().error or "")
