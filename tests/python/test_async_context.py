"""Context variables that travel with jobs."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forebay
import pytest
from conftest import LIMIT
from forebay import Dispatcher

Opened = Callable[..., Dispatcher]

tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="nobody")
trace: contextvars.ContextVar[str] = contextvars.ContextVar("trace")


def seen() -> list[str]:
    return [tenant.get(), trace.get("none")]


async def seen_later() -> list[str]:
    first = seen()
    await asyncio.sleep(0)
    assert seen() == first
    tenant.set("changed")
    return first


def with_values(body: Callable[[], Any], **values: str) -> Any:
    def inside() -> Any:
        for variable in (tenant, trace):
            if variable.name in values:
                variable.set(values[variable.name])
        return body()

    return contextvars.Context().run(inside)


@pytest.mark.parametrize("store", ["memory", "file", "shared"])
@pytest.mark.parametrize("function", [seen, seen_later])
def test_values_travel(opened: Opened, tmp_path: Path, store: str, function: Callable[..., Any]) -> None:
    url = {} if store == "memory" else {"url": tmp_path / "jobs.db", "shared": store == "shared"}
    d = opened(context=[tenant, trace], concurrency=1, **url)
    handler = d.handler(kind="k")(function)
    d.start()
    for values, want in (
        ({"tenant": "a", "trace": "1"}, ["a", "1"]),
        ({"tenant": "b"}, ["b", "none"]),
        ({}, ["nobody", "none"]),
        ({"tenant": "default"}, ["default", "none"]),
        ({"tenant": ""}, ["", "none"]),
    ):
        handle = with_values(handler.push, **values)
        assert handle.result(LIMIT) == want
        assert handle.job().headers == {f"context-{name}": value for name, value in values.items()}


def test_every_way_of_pushing(opened: Opened) -> None:
    d = opened(context=[tenant])
    handler = d.handler(kind="k")(seen_later)
    d.start()

    async def apush() -> Any:
        return [await handler.apush(), await d.apush("k")]

    ways: list[Callable[[], list[Any]]] = [
        lambda: [handler.push(), handler.options(priority=1).push()],
        lambda: d.push_many([{"kind": "k", "payload": b""}]),
        lambda: asyncio.run(apush()),
    ]
    d.handler(kind="k")(lambda *_: tenant.get())
    for way in ways:
        handles = with_values(way, tenant="a")
        assert {handle.result(LIMIT) for handle in handles} == {"a"}


def test_what_is_said_at_the_push_holds(opened: Opened) -> None:
    d = opened(context=[tenant])
    handler = d.handler(kind="k")(seen)
    d.start()
    other = handler.options(headers={"context-tenant": "other"})
    assert with_values(other.push, tenant="a").result(LIMIT) == ["other", "none"]


def test_a_handler_that_pushes_passes_it_on(opened: Opened) -> None:
    d = opened(context=[tenant], concurrency=2)
    last = d.handler(kind="last")(seen)

    @d.handler
    async def first() -> list[str]:
        return await last.push()

    d.start()
    assert with_values(first.push, tenant="a").result(LIMIT) == ["a", "none"]


def test_only_text_travels(opened: Opened) -> None:
    number: contextvars.ContextVar[Any] = contextvars.ContextVar("number")
    d = opened(context=[number])
    d.handler(kind="k")(lambda: number.get("not set"))
    d.start()
    told: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.unraisablehook", told.append)
        number.set(1)
        handle = d.handler(kind="k")(lambda: number.get("not set")).push()
        assert handle.result(LIMIT) == "not set"
    assert "only text travels" in str(told[0].exc_value)


def test_what_cannot_travel_is_refused() -> None:
    same: contextvars.ContextVar[str] = contextvars.ContextVar("tenant")
    with pytest.raises(forebay.InvalidError, match="two variables have the name 'tenant'"):
        Dispatcher(context=[tenant, same])
    with pytest.raises(forebay.InvalidError, match="a str is no ContextVar"):
        Dispatcher(context=["tenant"])  # type: ignore[list-item]
