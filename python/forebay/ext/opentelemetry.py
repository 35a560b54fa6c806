"""OpenTelemetry: a span for each push and each attempt, of one trace wherever they happen.

    from forebay.ext.opentelemetry import trace_jobs

    d = forebay.Dispatcher("sqlite:jobs.db")
    trace_jobs(d)

A push is a PRODUCER span, and the job carries its context as W3C `traceparent` and `tracestate` in its
headers: through files, restarts and dumps, and to handlers in other languages, which need no more than the
header. An attempt is a CONSUMER span, the child of the push that made the job, and current in the handler, so
that what that does belongs to it. Only `opentelemetry-api` is needed; without an SDK nothing is recorded.

Attributes follow the semantic conventions for messaging: the queue is the destination, the job the message.
What those have no word for is `forebay.job.kind`, `forebay.job.attempt` and `forebay.job.outcome`.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from contextvars import ContextVar
from threading import Lock
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from opentelemetry import context, metrics, trace
from opentelemetry.propagate import get_global_textmap
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode

from forebay import __version__

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Token
    from uuid import UUID

    from opentelemetry.context import Context
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from forebay import Dispatcher, Handle, Job

__all__ = ["trace_jobs"]

_SCHEMA = "https://opentelemetry.io/schemas/1.40.0"
_KNOWN = 10_000
"""Of how many jobs the last attempt is known, to be linked to by the next one."""
_BAD = frozenset({"failed", "fatal"})
"""The outcomes that are errors; that a handler asks to run again, say, is none."""
_LAST = frozenset({"success", "fatal", "cancelled"})
"""The outcomes that no attempt follows."""


def trace_jobs(
    dispatcher: Dispatcher,
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
) -> None:
    """Makes spans of the pushes and the attempts of this dispatcher from now on. Call it once.

    A push that is refused, and an attempt that fails, has an error as its status; what the handler raised is
    an event of the span, with its traceback. An attempt that follows another one in the same process is
    linked to it. A push in a handler is a child of the attempt.

    Two histograms are recorded as well: `messaging.process.duration` for each attempt and
    `messaging.client.operation.duration` for each push.

    Args:
        dispatcher: Whose jobs.
        tracer_provider: Who makes the spans; the global one if left out.
        meter_provider: Who makes the histograms; the global one if left out.
    """
    tracing = _Tracing(
        trace.get_tracer("forebay", __version__, tracer_provider, _SCHEMA),
        metrics.get_meter("forebay", __version__, meter_provider, _SCHEMA),
    )
    dispatcher.add_hooks(before=tracing.before, after=tracing.after, push=tracing.push)


class _Running(NamedTuple):
    """The span of an attempt that runs, and how it stops to be the current one."""

    span: Span
    token: Token[Context]


_running: ContextVar[_Running | None] = ContextVar("forebay_span", default=None)


class _Tracing:
    """The hooks of one dispatcher."""

    def __init__(self, tracer: trace.Tracer, meter: metrics.Meter) -> None:
        self._tracer = tracer
        self._attempts = _Attempts()
        self._process = meter.create_histogram(
            "messaging.process.duration", "s", "Duration of processing operation."
        )
        self._send = meter.create_histogram(
            "messaging.client.operation.duration",
            "s",
            "Duration of messaging operation initiated by a client.",
        )

    def push(
        self, kind: str, queue: str, headers: dict[str, str]
    ) -> Callable[[Handle[Any] | None, BaseException | None], None]:
        """Begins the span of a push, and gives the job its context."""
        attributes = _attributes("send", "push", kind, queue)
        span = self._tracer.start_span(f"push {queue}", kind=SpanKind.PRODUCER, attributes=attributes)
        get_global_textmap().inject(headers, trace.set_span_in_context(span))
        started = perf_counter()

        def pushed(handle: Handle[Any] | None, error: BaseException | None) -> None:
            if handle is not None:
                span.set_attribute("messaging.message.id", str(handle.id))
                if handle.shed is not None:
                    span.set_attribute("forebay.job.shed", handle.shed)
            if error is not None:
                attributes["error.type"] = _fail(span, error, "refused")
            span.end()
            self._send.record(perf_counter() - started, attributes)

        return pushed

    def before(self, job: Job) -> None:
        """Begins the span of an attempt and makes it the current one."""
        attributes = _attributes("process", "process", job.kind, job.queue)
        pushed = get_global_textmap().extract(job.headers, context=context.Context())
        former = self._attempts.take(job)
        span = self._tracer.start_span(
            f"process {job.queue}",
            context=pushed,
            kind=SpanKind.CONSUMER,
            attributes=attributes | {"messaging.message.id": str(job.id), "forebay.job.attempt": job.attempt},
            links=[Link(former)] if former is not None else None,
        )
        _running.set(_Running(span, context.attach(trace.set_span_in_context(span, pushed))))

    def after(self, job: Job, outcome: str, seconds: float) -> None:
        """Ends it."""
        running = _running.get()
        if running is None:
            return  # It began before it was to be traced.
        _running.set(None)
        span, token = running
        context.detach(token)
        attributes = _attributes("process", "process", job.kind, job.queue)
        span.set_attribute("forebay.job.outcome", outcome)
        if outcome not in _LAST:
            self._attempts.note(job, span.get_span_context())
        if outcome in _BAD:
            attributes["error.type"] = _fail(span, sys.exception(), outcome)
        span.end()
        self._process.record(seconds, attributes)


class _Attempts:
    """The spans of the last attempts, of the jobs that had one last. Any thread."""

    def __init__(self) -> None:
        self._spans: OrderedDict[UUID, SpanContext] = OrderedDict()
        self._lock = Lock()

    def note(self, job: Job, span: SpanContext) -> None:
        """Notes the attempt of a job that runs again, maybe."""
        if span.is_valid:
            with self._lock:
                self._spans[job.id] = span
                if len(self._spans) > _KNOWN:
                    self._spans.popitem(last=False)

    def take(self, job: Job) -> SpanContext | None:
        """The attempt before, if it is known."""
        if not self._spans:
            return None
        with self._lock:
            return self._spans.pop(job.id, None)


def _attributes(type: str, name: str, kind: str, queue: str) -> dict[str, str | int]:
    """What every span of an operation on a job has."""
    return {
        "messaging.system": "forebay",
        "messaging.operation.type": type,
        "messaging.operation.name": name,
        "messaging.destination.name": queue,
        "forebay.job.kind": kind,
    }


def _fail(span: Span, error: BaseException | None, otherwise: str) -> str:
    """Gives the span an error; how that is called."""
    if error is None:
        span.set_status(Status(StatusCode.ERROR, otherwise))
        return otherwise
    name = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    span.record_exception(error)
    span.set_status(Status(StatusCode.ERROR, f"{name}: {error}"))
    span.set_attribute("error.type", name)
    return name
