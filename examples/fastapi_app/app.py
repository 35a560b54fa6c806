"""A web service that answers at once and does the work afterwards, of which no deploy and no crash loses any.

    pip install fastapi uvicorn
    ORDERS=sqlite:orders.db uvicorn app:app

    curl -X POST localhost:8000/orders/17     -> 202 {"id": "..."}, once the order is on the disk
    curl localhost:8000/jobs/...              -> "succeeded"

When the queue is full, clients are told to come again (503, Retry-After). A SIGTERM ends the server after the
requests that it has; what waits is done by the next process. An order that was being delivered when the
process was killed is delivered once more, so whoever takes it must be able to hear of it twice: the key is
there to tell.
"""

import os
from uuid import UUID

import forebay
from fastapi import FastAPI
from forebay.ext.fastapi import ForebayDispatcher, forebay_lifespan, queue_full_handler
from forebay.ext.prometheus import asgi_app

d = forebay.Dispatcher(os.environ["ORDERS"], capacity=10_000, retry="exponential(100ms, cap=1m, jitter=0.1)")
app = FastAPI(lifespan=forebay_lifespan(d))
app.add_exception_handler(forebay.QueueFull, queue_full_handler(retry_after=2))
app.mount("/metrics", asgi_app(d))


@d.handler(max_attempts=8, timeout=30)
def deliver(order: str) -> None:
    """What is slow, or fails now and then: here a line in a file."""
    with open(os.environ["DELIVERED"], "a") as file:
        file.write(f"{order}\n")


@app.post("/orders/{order}", status_code=202)
async def accept(order: str) -> dict[str, str]:
    """Answers when the order can no longer be lost. The same order again is no second one."""
    handle = await deliver.options(key=order).apush(order)
    return {"id": str(handle.id)}


@app.get("/jobs/{id}")
def status(id: UUID, d: ForebayDispatcher) -> str:
    """Where a job stands."""
    return d.get(id).status
