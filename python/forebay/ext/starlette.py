"""Starlette: a dispatcher that starts and stops with the application.

    from forebay.ext.starlette import dispatcher_of, forebay_lifespan, queue_full_handler

    d = forebay.Dispatcher("sqlite:jobs.db")

    @d.handler
    async def deliver(order: str) -> None: ...

    async def orders(request: Request) -> Response:
        handle = await deliver.apush((await request.body()).decode())
        return JSONResponse({"id": str(handle.id)}, status_code=202)

    app = Starlette(
        routes=[Route("/orders", orders, methods=["POST"])],
        lifespan=forebay_lifespan(d),
        exception_handlers={QueueFull: queue_full_handler()},
    )

A server that is told to stop takes no more requests, finishes those it has, and then ends the lifespan:
running jobs get the grace (an option of the dispatcher), and those that wait are in the file for the next
process. Nothing that was answered is lost. A dispatcher in memory has no next process: give it a `dump_file`,
or the lifespan a `drain`.

Each process of a server has a lifespan, and so a dispatcher, of its own. Several on one file must say
`shared=True`.
"""

from __future__ import annotations

import math
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.responses import JSONResponse

from forebay.dispatcher import Dispatcher
from forebay.errors import WaitTimeout

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    from starlette.requests import HTTPConnection, Request
    from starlette.responses import Response

    from forebay._types import Delay

__all__ = ["dispatcher_of", "forebay_lifespan", "queue_full_handler"]

App = TypeVar("App")


def forebay_lifespan(
    dispatcher: Dispatcher | Callable[[], Dispatcher],
    inner: Callable[[App], AbstractAsyncContextManager[Mapping[str, Any] | None]] | None = None,
    *,
    drain: Delay | None = None,
    key: str = "forebay",
) -> Callable[[App], AbstractAsyncContextManager[dict[str, Any]]]:
    """The lifespan of an application that has a dispatcher.

    It starts the dispatcher on the loop of the application and stops it there, as `async with dispatcher`
    does. Jobs start when all of `inner` is there, and none runs any more when that begins to end.

    Args:
        dispatcher: What starts and stops; or a function that makes it, for an application that is started
            more than once in a process, as tests do: a dispatcher that has stopped stays stopped.
        inner: The lifespan that the application has besides; another `forebay_lifespan` with another key,
            perhaps.
        drain: How long to wait, at the end, until no job is queued or running, in seconds; not at all if left
            out. Jobs that are due later are not waited for.
        key: What the dispatcher is called in the state of requests, for `dispatcher_of`.
    """

    @asynccontextmanager
    async def lifespan(app: App) -> AsyncIterator[dict[str, Any]]:
        async with AsyncExitStack() as stack:
            own = await stack.enter_async_context(inner(app)) if inner is not None else None
            d = dispatcher if isinstance(dispatcher, Dispatcher) else dispatcher()
            async with d:
                yield {**(own or {}), key: d}
                if drain is not None:
                    with suppress(WaitTimeout):  # What is not done in time is told by the stop.
                        await d.adrain(drain)

    return lifespan


def dispatcher_of(connection: HTTPConnection, key: str = "forebay") -> Dispatcher:
    """The dispatcher of the application that this request, or this websocket, came to.

    Raises:
        RuntimeError: The application has no `forebay_lifespan`, or nobody has started it.
    """
    state: dict[str, object] = connection.scope.get("state", {})
    found = state.get(key)
    if not isinstance(found, Dispatcher):
        raise RuntimeError(
            f"this application has no dispatcher {key!r}: give it lifespan=forebay_lifespan(...), and start "
            "it, in tests too (`with TestClient(app)`)"
        )
    return found


def queue_full_handler(retry_after: float = 1.0) -> Callable[[Request, Exception], Response]:
    """Answers 503 with `Retry-After` where a handler raised `QueueFull`: add it for that class.

        app.add_exception_handler(QueueFull, queue_full_handler(retry_after=5))

    So a push into a full queue (the options `capacity` and `on_full`) sends load back to where it comes from,
    while a client knows that it may try again.

    Args:
        retry_after: The seconds that clients are asked to wait, which are rounded up to whole ones.
    """
    headers = {"Retry-After": str(math.ceil(retry_after))}

    def queue_full(request: Request, error: Exception) -> Response:
        return JSONResponse({"detail": "too busy; try again later"}, 503, headers)

    return queue_full
