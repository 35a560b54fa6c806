"""Jobs that wait, as a test looks for them and as a failure shows them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from forebay._forebay import Core, Handler, JobInfo, from_json, registered, to_json
from forebay.errors import EncodeError, InvalidError

WAITING = ("blocked", "scheduled", "queued")
"""The states of a job that is to run."""
_SHOWN = 10
"""The most jobs that a failure shows."""
_MISSING: Any = object()

FIELDS = {
    "queue": lambda job, now: job.queue,
    "key": lambda job, now: job.key,
    "concurrency_key": lambda job, now: job.concurrency_key,
    "priority": lambda job, now: job.priority,
    "delay": lambda job, now: max(0.0, round((job.run_at - now).total_seconds(), 3)),
    "run_at": lambda job, now: job.run_at,
    "deadline": lambda job, now: job.deadline,
    "headers": lambda job, now: job.headers,
    "status": lambda job, now: job.status,
    "attempt": lambda job, now: job.attempt,
    "timeout": lambda job, now: job.timeout,
    "id": lambda job, now: job.id,
}
"""What can be asked of a job beside its arguments."""


class Sought:
    """What a test looks for: a kind, arguments, fields."""

    def __init__(
        self,
        dispatcher: Core,
        handler: Handler[..., Any] | Callable[..., Any] | str | None,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        fields: Mapping[str, Any],
    ) -> None:
        self._handlers = registered(dispatcher)
        self.kind = _kind(handler, self._handlers)
        self.fields = dict(fields)
        if unknown := set(fields) - set(FIELDS):
            raise InvalidError(f"{sorted(unknown)} are no fields of a job; there are: {', '.join(FIELDS)}")
        self.args, self.kwargs = args, dict(kwargs)
        self._names = self._bound(self.kind, args, self.kwargs) if args or kwargs else {}

    def differences(self, job: JobInfo, now: datetime) -> list[str]:
        """Why a job is not what is looked for; nothing if it is."""
        if self.kind is not None and job.kind != self.kind:
            return [f"kind: {job.kind!r}, not {self.kind!r}"]
        found = [] if not self.args and not self.kwargs else self._arguments(job)
        for name, wanted in self.fields.items():
            got = FIELDS[name](job, now)
            if not _fits(name, wanted, got):
                found.append(f"{name}: {got!r}, not {wanted!r}")
        return found

    def shown(self) -> str:
        """What is looked for, as one would write it."""
        kind = self.kind if self.kind is not None else "any"
        given = [*map(_short, self.args), *(f"{k}={_short(v)}" for k, v in self.kwargs.items())]
        told = "".join(f" {name}={value!r}" for name, value in self.fields.items())
        return f"{kind}({', '.join([*given, '...'] if given else ['...'])}){told}"

    def _arguments(self, job: JobInfo) -> list[str]:
        args, kwargs = given(job)
        there = self._bound(job.kind, tuple(args), kwargs)
        found = []
        for name, wanted in self._names.items():
            got = there.get(name, _MISSING)
            if got is _MISSING:
                found.append(f"{name}: not given, instead of {_short(wanted)}")
            elif not _same(wanted, got):
                found.append(f"{name}: {_short(got)}, not {_short(wanted)}")
        return found

    def _bound(self, kind: str | None, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments by the names of the handler's parameters, however they were given; else by position."""
        told = {**{str(i): value for i, value in enumerate(args)}, **kwargs}
        if kind is None or kind not in self._handlers:
            return told
        function, pass_job, fresh, *_ = self._handlers[kind]
        try:
            signature = inspect.signature(_call_of(function) if fresh else function)
            parameters = list(signature.parameters.values())[1 if pass_job else 0 :]
            bound = signature.replace(parameters=parameters).bind_partial(*args, **kwargs)
        except (TypeError, ValueError):
            return told
        names: dict[str, Any] = {}
        for name, value in bound.arguments.items():
            how = bound.signature.parameters[name].kind
            if how is inspect.Parameter.VAR_POSITIONAL:
                names |= {f"{name}[{i}]": one for i, one in enumerate(value)}
            elif how is inspect.Parameter.VAR_KEYWORD:
                names |= value
            else:
                names[name] = value
        return names


def given(job: JobInfo) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of a job: those of a call, or the one value it carries."""
    payload = job.payload
    if isinstance(payload, dict) and payload.keys() == {"args", "kwargs"}:
        return list(payload["args"]), dict(payload["kwargs"])
    return [payload], {}


def shown(job: JobInfo, now: datetime) -> str:
    """A job in one line, as it was pushed."""
    args, kwargs = given(job)
    call = ", ".join([*map(_short, args), *(f"{name}={_short(value)}" for name, value in kwargs.items())])
    told = [f"queue={job.queue!r}"]
    told += [f"{name}={getattr(job, name)!r}" for name in ("key", "concurrency_key") if getattr(job, name)]
    if job.priority:
        told.append(f"priority={job.priority}")
    if job.attempt:
        told.append(f"attempt={job.attempt}")
    wait = FIELDS["delay"](job, now)
    when = job.status if not wait else f"{job.status}, due in {wait:g} s"
    return f"{job.kind}({call})  {' '.join(told)}  {when}"


def listing(title: str, jobs: list[JobInfo], now: datetime) -> list[str]:
    """Jobs, one a line, under a title."""
    if not jobs:
        return ["nothing is enqueued"]
    lines = [title, *(f"  {shown(job, now)}" for job in jobs[:_SHOWN])]
    return lines if len(jobs) <= _SHOWN else [*lines, f"  and {len(jobs) - _SHOWN} more"]


def nearest(sought: Sought, jobs: list[JobInfo], now: datetime) -> list[str]:
    """The job that differs least from what is looked for, and how."""
    ranked = sorted(
        jobs, key=lambda job: (job.kind != (sought.kind or job.kind), len(sought.differences(job, now)))
    )
    if not ranked:
        return []
    best = ranked[0]
    differences = sought.differences(best, now)
    return [f"nearest: {shown(best, now)}", *(f"  {line}" for line in differences)]


def _kind(handler: Any, handlers: Mapping[str, Any]) -> str | None:
    if handler is None or isinstance(handler, str):
        return handler
    if isinstance(handler, Handler):
        return handler.kind
    for kind, (function, *_) in handlers.items():
        if function is handler:
            return kind
    # What `forebay.ext` declares before there is a dispatcher is called as its handler is.
    named = getattr(handler, "kind", None)
    if isinstance(named, str) and named in handlers:
        return named
    raise InvalidError(f"{handler!r} is no handler, kind or function that is registered here")


def _call_of(cls: Any) -> Callable[..., Any]:
    """What runs when an instance is called, without `self`."""
    signature = inspect.signature(cls.__call__)

    def call() -> None:
        """Stands for it."""

    rest = list(signature.parameters.values())[1:]
    call.__signature__ = signature.replace(parameters=rest)  # type: ignore[attr-defined]
    return call


def _fits(name: str, wanted: Any, got: Any) -> bool:
    if name == "delay" and isinstance(wanted, timedelta):
        wanted = wanted.total_seconds()
    if name == "delay" and isinstance(wanted, int | float) and got is not None:
        return bool(abs(got - wanted) < 0.0015)
    if name == "headers" and isinstance(wanted, Mapping):
        return all(got.get(key) == value for key, value in wanted.items())
    if name == "id":
        return str(got) == str(getattr(wanted, "id", wanted))
    return bool(wanted == got)


def _same(wanted: Any, got: Any) -> bool:
    """Whether they are equal, or would be once what is wanted had been written as what is there was."""
    if wanted == got:
        return True
    if isinstance(wanted, str | int | float | None):
        return False
    try:
        return bool(from_json(to_json(wanted)) == got)
    except (EncodeError, TypeError, ValueError):
        return False


def _short(value: object) -> str:
    try:
        text = repr(value)
    except Exception as broken:
        return f"<{type(value).__name__} whose repr raised {type(broken).__name__}>"
    return text if len(text) <= 120 else f"{text[:117]}..."
