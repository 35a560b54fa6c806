"""Prometheus: the counts of a dispatcher, where a scraper finds them.

With an application of its own:

    app.mount("/metrics", forebay.ext.prometheus.asgi_app(d))  # FastAPI, Starlette
    wsgiref.simple_server.make_server("", 9100, forebay.ext.prometheus.wsgi_app(d))  # anything

or, where `prometheus_client` serves other metrics already, among them:

    prometheus_client.REGISTRY.register(forebay.ext.prometheus.Collector(d))

What is counted, by queue: jobs that are blocked, scheduled, queued and running, what was pushed, claimed and
how it ended, what was shed and why, and the pressure. Each scrape is one consistent snapshot.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, MutableMapping
    from wsgiref.types import WSGIApplication

    from prometheus_client import Metric

    from forebay import Dispatcher

    _Message = MutableMapping[str, Any]
    _Asgi = Callable[
        [_Message, Callable[[], Awaitable[_Message]], Callable[[_Message], Awaitable[None]]], Awaitable[None]
    ]

__all__ = ["CONTENT_TYPE", "Collector", "asgi_app", "wsgi_app"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""What `Dispatcher.metrics()` is, as HTTP names it."""


def wsgi_app(dispatcher: Dispatcher) -> WSGIApplication:
    """An application that answers each GET, whatever its path, with the counts of this dispatcher."""

    def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        method = environ["REQUEST_METHOD"]
        status, headers, body = _answer(method, dispatcher.metrics if method in _METHODS else str)
        start_response(status, headers)
        return [body]

    return app


def asgi_app(dispatcher: Dispatcher) -> _Asgi:
    """The same for ASGI servers on asyncio. A thread takes the counts, as a shared file has to be read."""

    async def app(
        scope: _Message,
        receive: Callable[[], Awaitable[_Message]],
        send: Callable[[_Message], Awaitable[None]],
    ) -> None:
        import asyncio

        if scope["type"] != "http":
            raise ValueError(f"this application serves metrics by HTTP, not {scope['type']}")
        method = scope["method"]
        text = await asyncio.to_thread(dispatcher.metrics) if method in _METHODS else ""
        status, headers, body = _answer(method, lambda: text)
        coded = [(name.lower().encode(), value.encode()) for name, value in headers]
        await send({"type": "http.response.start", "status": int(status[:3]), "headers": coded})
        await send({"type": "http.response.body", "body": body})

    return app


_METHODS = ("GET", "HEAD")


def _answer(method: str, text: Callable[[], str]) -> tuple[str, list[tuple[str, str]], bytes]:
    """The status, the headers and the body of an answer."""
    if method not in _METHODS:
        return "405 Method Not Allowed", [("Allow", ", ".join(_METHODS)), ("Content-Length", "0")], b""
    body = text().encode()
    headers = [("Content-Type", CONTENT_TYPE), ("Content-Length", str(len(body)))]
    return "200 OK", headers, body if method == "GET" else b""


class Collector:
    """The counts of one dispatcher, or of several, for a registry of `prometheus_client`.

    That must be installed. Several are given by name, `Collector({"mail": mail, "web": web})`, and told apart
    by the label `dispatcher`: make one collector of them, as a registry refuses a second one. It asks on the
    thread of the scrape.
    """

    def __init__(self, dispatchers: Dispatcher | Mapping[str, Dispatcher]) -> None:
        """Collects from these."""
        self._dispatchers = dispatchers

    def collect(self) -> Iterable[Metric]:
        """The metrics as they are now."""
        if not isinstance(self._dispatchers, Mapping):
            return _families(self._dispatchers)
        all: dict[str, Metric] = {}
        for name, dispatcher in self._dispatchers.items():
            for family in _families(dispatcher):
                samples = [s._replace(labels=s.labels | {"dispatcher": name}) for s in family.samples]
                family.samples = []
                all.setdefault(family.name, family).samples += samples
        return all.values()

    describe = collect
    """What a registry asks for when this is registered."""


def _families(dispatcher: Dispatcher) -> Iterable[Metric]:
    from prometheus_client.parser import text_string_to_metric_families

    return text_string_to_metric_families(dispatcher.metrics())
