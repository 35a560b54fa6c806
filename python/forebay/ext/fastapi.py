"""FastAPI: a dispatcher that starts and stops with the application, and that handlers ask for.

    from forebay.ext.fastapi import ForebayDispatcher, forebay_lifespan, queue_full_handler

    d = forebay.Dispatcher("sqlite:jobs.db")

    @d.handler
    async def deliver(order: str) -> None: ...

    app = FastAPI(lifespan=forebay_lifespan(d))
    app.add_exception_handler(QueueFull, queue_full_handler())

    @app.post("/orders/{order}", status_code=202)
    async def accept(order: str) -> dict[str, str]:
        handle = await deliver.apush(order)
        return {"id": str(handle.id)}

    @app.get("/jobs/{id}")
    async def status(id: UUID, d: ForebayDispatcher) -> str:
        return d.get(id).status

What a deploy does to jobs, and what several processes of a server need, is told in `forebay.ext.starlette`.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

from fastapi import Depends
from starlette.requests import HTTPConnection

from forebay.dispatcher import Dispatcher
from forebay.ext.starlette import dispatcher_of, forebay_lifespan, queue_full_handler

__all__ = [
    "ForebayDispatcher",
    "dispatcher_of",
    "forebay_dispatcher",
    "forebay_lifespan",
    "queue_full_handler",
]


def forebay_dispatcher(connection: HTTPConnection) -> Dispatcher:
    """The dispatcher of the application, as a dependency: `Depends(forebay_dispatcher)`.

    Of an application with several, write a dependency that returns `dispatcher_of(connection, key)`.
    """
    return dispatcher_of(connection)


ForebayDispatcher: TypeAlias = Annotated[Dispatcher, Depends(forebay_dispatcher)]
"""The type of a parameter that is the dispatcher."""
