"""FastAPI and Starlette: the dispatcher lives with the application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Annotated, Any
from uuid import UUID

import httpx
import pytest
from conftest import LIMIT
from fastapi import Depends, FastAPI
from forebay import ClosedError, Dispatcher, Handle, QueueFull
from forebay.ext.fastapi import (
    ForebayDispatcher,
    dispatcher_of,
    forebay_dispatcher,
    forebay_lifespan,
    queue_full_handler,
)
from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

Opened = Callable[..., Dispatcher]


@asynccontextmanager
async def served(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    """The application as a server runs it: started, asked, and stopped."""
    said: asyncio.Queue[Any] = asyncio.Queue()
    told: asyncio.Queue[Any] = asyncio.Queue()
    state: dict[str, Any] = {}
    scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": state}
    task = asyncio.create_task(app(scope, told.get, said.put))
    await told.put({"type": "lifespan.startup"})
    assert await said.get() == {"type": "lifespan.startup.complete"}

    async def with_state(scope: Any, receive: Any, send: Any) -> None:
        await app(scope | {"state": dict(state)}, receive, send)

    transport = httpx.ASGITransport(app=with_state)
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
        yield client
    await told.put({"type": "lifespan.shutdown"})
    assert await said.get() == {"type": "lifespan.shutdown.complete"}
    await task


def application(d: Dispatcher | Callable[[], Dispatcher], inner: Any = None, **options: Any) -> FastAPI:
    app = FastAPI(lifespan=forebay_lifespan(d, inner, **options))
    app.add_exception_handler(QueueFull, queue_full_handler(retry_after=1.5))

    @app.post("/jobs/{kind}", status_code=202)
    async def push(kind: str, d: ForebayDispatcher) -> str:
        handle = await d.apush(kind, 20)
        return str(handle.id)

    @app.get("/jobs/{id}")
    def result(id: UUID, d: Annotated[Dispatcher, Depends(forebay_dispatcher)]) -> str:
        return d.get(id).status

    return app


def test_a_request_pushes_and_another_one_asks(opened: Opened) -> None:
    async def main() -> None:
        d = opened()
        ends: list[Handle[Any]] = []

        @d.handler
        async def half(n: int) -> float:
            # On the loop of the application, as the requests are.
            assert asyncio.get_running_loop() is loop
            return n / 2

        loop = asyncio.get_running_loop()
        app = application(d)

        @app.post("/half/{n}")
        async def push(n: int) -> float:
            handle = await half.apush(n)
            ends.append(handle)
            return await handle

        async with served(app) as client:
            got = await client.post("/half/9")
            assert (got.status_code, got.json()) == (200, 4.5)
            status = await client.get(f"/jobs/{ends[0].id}")
            assert status.json() == "succeeded"
        with pytest.raises(ClosedError):
            half.push(1)

    asyncio.run(main())


def test_it_lives_within_the_lifespan_of_the_application(opened: Opened) -> None:
    said: list[str] = []

    @asynccontextmanager
    async def own(app: FastAPI) -> AsyncIterator[dict[str, str]]:
        said.append("opened")
        yield {"mine": "yes"}
        said.append("closed")

    async def main() -> None:
        d = opened()

        @d.handler
        def k(payload: int) -> None:
            said.append("ran")

        app = application(d, own, drain=LIMIT)

        @app.get("/state")
        def state(request: Request) -> list[object]:
            return [request.state.mine, request.state.forebay is d]

        async with served(app) as client:
            assert (await client.get("/state")).json() == ["yes", True]
            # Whatever waits at the end is still run, as `drain` says.
            d.pause()
            await client.post("/jobs/k")
            d.resume()

    asyncio.run(main())
    assert said == ["opened", "ran", "closed"]


def test_it_stops_when_the_application_cannot_start(opened: Opened) -> None:
    async def main() -> None:
        d = opened()
        lifespan: Callable[[FastAPI], AbstractAsyncContextManager[Any]] = forebay_lifespan(d)
        with pytest.raises(ZeroDivisionError):
            async with lifespan(FastAPI()):
                raise ZeroDivisionError
        assert d.stopping

    asyncio.run(main())


def test_an_application_is_started_again_with_a_new_one(opened: Opened) -> None:
    async def main() -> None:
        made: list[Dispatcher] = []

        def make() -> Dispatcher:
            made.append(opened())
            return made[-1]

        app = application(make)
        for _ in range(2):
            async with served(app) as client:
                assert (await client.post("/jobs/k")).status_code == 202
                assert made[-1].purge() == 1
        assert len(made) == 2

    asyncio.run(main())


def test_two_dispatchers(opened: Opened) -> None:
    async def main() -> None:
        mail, web = opened(queue="mail"), opened(queue="web")

        async def names(request: Request) -> Response:
            both = (dispatcher_of(request), dispatcher_of(request, "mail"))
            return JSONResponse([d.settings["queue"] for d in both])

        both: Callable[[Starlette], AbstractAsyncContextManager[dict[str, Any]]]
        both = forebay_lifespan(web, forebay_lifespan(mail, key="mail"))
        async with served(Starlette(routes=[Route("/", names)], lifespan=both)) as client:
            assert (await client.get("/")).json() == ["web", "mail"]
        assert mail.stopping
        assert web.stopping

    asyncio.run(main())


def test_a_full_queue_is_told_to_the_client(opened: Opened) -> None:
    async def main() -> None:
        d = opened(capacity=1)
        async with served(application(d)) as client:
            assert (await client.post("/jobs/k")).status_code == 202
            full = await client.post("/jobs/k")
            assert (full.status_code, full.headers["retry-after"]) == (503, "2")
            assert full.json() == {"detail": "too busy; try again later"}
            d.purge()

    asyncio.run(main())


def test_what_nobody_started_says_so() -> None:
    with pytest.raises(RuntimeError, match="has no dispatcher 'forebay': give it lifespan="):
        dispatcher_of(HTTPConnection({"type": "http"}))
