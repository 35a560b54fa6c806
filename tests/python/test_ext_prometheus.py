"""Metrics as their readers read them: the parser and the registry of prometheus_client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from wsgiref.util import setup_testing_defaults

import httpx
import pytest
from forebay import Dispatcher
from forebay.ext.prometheus import CONTENT_TYPE, Collector, asgi_app, wsgi_app
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families

Opened = Callable[..., Dispatcher]
ODD = 'odd "name"\\ with all, {of} it'


def parsed(text: str) -> dict[str, Metric]:
    families = list(text_string_to_metric_families(text))
    assert len({family.name for family in families}) == len(families), "each is told once"
    return {family.name: family for family in families}


@pytest.fixture
def busy(opened: Opened) -> Dispatcher:
    """One with three jobs in an odd queue, of which one was claimed and failed for good."""
    d = opened(capacity=4)
    for n in range(3):
        d.push("k", n, queue=ODD, max_attempts=1)
    delivery = d.consumer().next(0)
    assert delivery is not None
    delivery.fail("no")
    return d


def test_the_text_is_what_a_parser_reads(busy: Dispatcher) -> None:
    families = parsed(busy.metrics())
    assert families["forebay_jobs_queued"].type == "gauge"
    assert families["forebay_failed"].type == "counter"
    assert families["forebay_pressure"].type == "gauge"
    assert all(family.documentation.endswith(".") for family in families.values())

    def value(family: str, queue: str = ODD) -> float:
        (found,) = [s.value for s in families[family].samples if s.labels["queue"] == queue]
        return found

    assert value("forebay_jobs_queued") == 2
    assert value("forebay_jobs_queued", "default") == 0
    assert value("forebay_pushed") == 3
    assert value("forebay_failed") == 1
    assert value("forebay_pressure") == 0.5
    # Every count of the snapshot is there.
    counts = busy.stats()["queues"][ODD]
    for name in counts.keys() - {"capacity", "paused", "kept", "pressure", "shed"}:
        assert (
            value(f"forebay_jobs_{name}" if f"forebay_jobs_{name}" in families else f"forebay_{name}")
            == (counts[name])
        )


def test_a_registry_serves_it_with_the_rest(busy: Dispatcher, opened: Opened) -> None:
    registry = CollectorRegistry(auto_describe=True)
    registry.register(Collector(busy))
    assert parsed(generate_latest(registry).decode()) == parsed(busy.metrics())
    with pytest.raises(ValueError, match="Duplicated"):
        registry.register(Collector(opened()))

    registry = CollectorRegistry()
    registry.register(Collector({"one": busy, "two": opened()}))
    families = parsed(generate_latest(registry).decode())
    bodies = families["forebay_bodies"].samples
    assert [sample.labels for sample in bodies] == [{"dispatcher": "one"}, {"dispatcher": "two"}]
    labels = {"queue": ODD, "dispatcher": "one"}
    assert registry.get_sample_value("forebay_failed_total", labels) == 1
    assert families.keys() == parsed(busy.metrics()).keys()


def test_wsgi(busy: Dispatcher) -> None:
    app = wsgi_app(busy)

    def call(method: str) -> tuple[str, dict[str, str], bytes]:
        environ: dict[str, Any] = {"REQUEST_METHOD": method}
        setup_testing_defaults(environ)
        said: list[Any] = []

        def start_response(*args: Any) -> Callable[[bytes], object]:
            said.extend(args)
            return said.append

        body = b"".join(app(environ, start_response))
        return said[0], dict(said[1]), body

    text = busy.metrics().encode()
    headers = {"Content-Type": CONTENT_TYPE, "Content-Length": str(len(text))}
    assert call("GET") == ("200 OK", headers, text)
    assert call("HEAD") == ("200 OK", headers, b"")
    status, headers, body = call("POST")
    assert (status, headers["Allow"], body) == ("405 Method Not Allowed", "GET, HEAD", b"")


def test_asgi(busy: Dispatcher) -> None:
    async def main() -> None:
        transport = httpx.ASGITransport(app=asgi_app(busy))
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            got = await client.get("/metrics")
            assert (got.status_code, got.headers["content-type"]) == (200, CONTENT_TYPE)
            assert got.text == busy.metrics()
            assert (await client.head("/metrics")).content == b""
            assert (await client.post("/metrics")).status_code == 405

    asyncio.run(main())


def test_what_has_stopped_still_tells(busy: Dispatcher) -> None:
    busy.stop()
    assert "forebay_pushed" in parsed(busy.metrics())
