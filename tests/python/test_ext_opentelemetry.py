"""Traces, with the real SDK and its exporter to memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from conftest import LIMIT
from forebay import Dispatcher, Handle, QueueFull, Retry, Snooze
from forebay.ext.opentelemetry import trace_jobs
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import Histogram, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from scripts import Script

Opened = Callable[..., Dispatcher]


class Traces:
    """What was exported."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._reader = InMemoryMetricReader()
        self.meters = MeterProvider([self._reader])
        self.tracer = self.provider.get_tracer("test")

    def of(self, name: str) -> list[ReadableSpan]:
        return [span for span in self._exporter.get_finished_spans() if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        (span,) = self.of(name)
        return span

    def histogram(self, name: str) -> list[tuple[int, dict[str, object]]]:
        data = self._reader.get_metrics_data()
        assert data is not None
        found = [
            m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics if m.name == name
        ]
        (metric,) = found
        assert isinstance(metric.data, Histogram)
        assert metric.unit == "s"
        return [(point.count, dict(point.attributes or {})) for point in metric.data.data_points]


@pytest.fixture
def traces() -> Iterator[Traces]:
    traces = Traces()
    yield traces
    traces.provider.shutdown()
    traces.meters.shutdown()


@pytest.fixture
def traced(opened: Opened, traces: Traces) -> Opened:
    def traced(**options: object) -> Dispatcher:
        d = opened(**options)
        trace_jobs(d, tracer_provider=traces.provider, meter_provider=traces.meters)
        return d

    return traced


def ids(span: ReadableSpan) -> tuple[int, int]:
    found = span.get_span_context()
    assert found is not None
    return found.trace_id, found.span_id


def parent(span: ReadableSpan) -> tuple[int, int] | None:
    return span.parent and (span.parent.trace_id, span.parent.span_id)


def test_a_push_and_its_attempt_are_one_trace(traced: Opened, traces: Traces) -> None:
    d = traced()

    @d.handler
    def inner() -> None: ...

    @d.handler
    def outer() -> tuple[Handle[None], object]:
        with traces.tracer.start_as_current_span("work"):
            return inner.options(queue="next").push(), baggage.get_baggage("tenant")

    with d, traces.tracer.start_as_current_span("request"):
        token = context.attach(baggage.set_baggage("tenant", "blue"))
        pushed = outer.push()
        context.detach(token)
        handle, tenant = pushed.result(LIMIT)
        handle.result(LIMIT)
        d.drain(LIMIT)
    assert tenant == "blue"
    names = ["request", "push default", "process default", "work", "push next", "process next"]
    chain = [traces.one(name) for name in names]
    for above, below in pairwise(chain):
        assert parent(below) == ids(above), below.name
    push, process = chain[1:3]
    assert (push.kind, process.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    assert (push.status.status_code, process.status.status_code) == (StatusCode.UNSET,) * 2
    common = {
        "messaging.system": "forebay",
        "messaging.destination.name": "default",
        "messaging.message.id": str(pushed.id),
        "forebay.job.kind": "outer",
    }
    assert dict(push.attributes or {}) == common | {
        "messaging.operation.type": "send",
        "messaging.operation.name": "push",
    }
    assert dict(process.attributes or {}) == common | {
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "forebay.job.attempt": 1,
        "forebay.job.outcome": "success",
    }
    assert sorted(count for count, _ in traces.histogram("messaging.process.duration")) == [1, 1]
    assert sorted(count for count, _ in traces.histogram("messaging.client.operation.duration")) == [1, 1]


def test_attempts_are_linked_and_tell_what_was_raised(traced: Opened, traces: Traces) -> None:
    d = traced(concurrency=1)
    seen: list[int] = []

    @d.handler(max_attempts=3)
    def f() -> None:
        seen.append(1)
        if len(seen) == 1:
            raise ValueError("no such thing")
        if len(seen) == 2:
            raise Retry(after=0)
        if len(seen) == 3:
            raise Snooze(0)

    with d:
        f.push().result(LIMIT)
        d.drain(LIMIT)
    push, attempts = traces.one("push default"), traces.of("process default")
    assert [parent(span) for span in attempts] == [ids(push)] * 4
    linked = [[(link.context.trace_id, link.context.span_id) for link in span.links] for span in attempts]
    assert linked == [[], *([ids(span)] for span in attempts[:3])]
    told = [dict(span.attributes or {}) for span in attempts]
    assert [t["forebay.job.outcome"] for t in told] == ["failed", "retry", "snooze", "success"]
    assert [t["forebay.job.attempt"] for t in told] == [1, 2, 3, 3]
    assert [span.status.status_code for span in attempts] == [StatusCode.ERROR, *[StatusCode.UNSET] * 3]
    first = attempts[0]
    assert first.status.description == "ValueError: no such thing"
    assert told[0]["error.type"] == "ValueError"
    (event,) = first.events
    assert event.name == "exception"
    raised = dict(event.attributes or {})
    assert raised["exception.type"] == "ValueError"
    assert "raise ValueError" in str(raised["exception.stacktrace"])
    errors = [
        attributes.get("error.type") for _, attributes in traces.histogram("messaging.process.duration")
    ]
    assert sorted(map(str, errors)) == ["None", "ValueError"]


def test_a_push_that_is_refused_is_an_error(traced: Opened, traces: Traces) -> None:
    d = traced(capacity=1)
    d.push("k")
    with pytest.raises(QueueFull):
        d.push("k")

    async def main() -> None:
        with traces.tracer.start_as_current_span("request"), pytest.raises(QueueFull):
            await d.apush("k")

    asyncio.run(main())
    fine, *refused = traces.of("push default")
    assert fine.status.status_code == StatusCode.UNSET
    assert len(refused) == 2
    for span in refused:
        assert span.status.status_code == StatusCode.ERROR
        assert dict(span.attributes or {})["error.type"] == "forebay.errors.QueueFull"
    assert parent(refused[1]) == ids(traces.one("request"))


def test_an_attempt_leaves_its_thread_as_it_was(traced: Opened, traces: Traces) -> None:
    d = traced(concurrency=1)

    @d.handler
    def quiet() -> bool:
        return trace.get_current_span().get_span_context().is_valid

    left: list[trace.Span] = []
    d.add_hooks(after=lambda job, outcome, seconds: left.append(trace.get_current_span()))
    with d:
        for _ in range(3):
            assert quiet.push().result(LIMIT)
        d.drain(LIMIT)
    assert left == [trace.INVALID_SPAN] * 3
    roots = [parent(span) for span in traces.of("push default")]
    assert roots == [None] * 3


def test_coroutines_have_their_own_spans(traced: Opened, traces: Traces) -> None:
    async def main() -> None:
        d, both, here = traced(concurrency=2), asyncio.Event(), 0

        @d.handler
        async def f(name: str) -> None:
            nonlocal here
            here += 1
            if here == 2:
                both.set()
            await both.wait()
            with traces.tracer.start_as_current_span(name):
                await asyncio.sleep(0)

        async with d:
            for name in ("one", "two"):
                with traces.tracer.start_as_current_span(f"request {name}"):
                    await f.apush(name)
            await d.adrain(LIMIT)
        assert not trace.get_current_span().is_recording()

    asyncio.run(main())
    pushes = {parent(span): ids(span) for span in traces.of("push default")}
    attempts = {parent(span): ids(span) for span in traces.of("process default")}
    for name in ("one", "two"):
        push = pushes[ids(traces.one(f"request {name}"))]
        assert parent(traces.one(name)) == attempts[push]


def test_a_trace_crosses_processes(traced: Opened, traces: Traces, tmp_path: Path) -> None:
    file = tmp_path / "jobs.db"
    d = traced(url=file)
    with traces.tracer.start_as_current_span("request"):
        handle = d.push("k", durability="disk")
    d.stop()
    (push,) = traces.of("push default")
    trace_id, span_id = ids(push)
    # Whatever reads the header, in whatever language, knows the trace.
    program = f"""
    d = forebay.Dispatcher("sqlite:{file}")
    say(d.get({str(handle.id)!r}).headers["traceparent"][:-3])
    d.stop()
    """
    with Script(program) as script:
        script.expect(f"00-{trace_id:032x}-{span_id:016x}")
        assert script.end() == (0, "", "")
    second = traced(url=file)

    @second.handler
    def k(payload: object = None) -> None: ...

    with second:
        second.drain(LIMIT)
    assert parent(traces.one("process default")) == (trace_id, span_id)


def test_without_an_sdk_nothing_happens(opened: Opened) -> None:
    d = opened()
    trace_jobs(d)

    @d.handler
    def f() -> dict[str, str]:
        return {}

    with d:
        handle = f.push()
        handle.result(LIMIT)
        d.drain(LIMIT)
    assert handle.job().headers == {}
    assert d.stats()["hook_failures"] == 0
