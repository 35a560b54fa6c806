"""Context variables that travel with jobs, in their headers."""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING

from forebay.errors import InvalidError

if TYPE_CHECKING:
    from forebay._forebay import Core, Job
    from forebay._types import Variables

_PREFIX = "context-"
_set: ContextVar[list[tuple[ContextVar[str], Token[str]]]] = ContextVar("forebay-set")
"""What was set for the attempt that runs: a thread goes on to others, and takes it back before."""


def carry(dispatcher: Core, variables: Variables) -> None:
    """Has the values of these variables travel with the jobs of a dispatcher.

    Raises:
        InvalidError: One is no ContextVar, or two of them have the same name.
    """
    named: dict[str, ContextVar[str]] = {}
    if not isinstance(variables, Iterable):
        raise InvalidError(f"context: {variables!r} is no list of ContextVars")
    for variable in variables:
        if not isinstance(variable, ContextVar):
            raise InvalidError(f"context: a {type(variable).__name__} is no ContextVar")
        if named.setdefault(_PREFIX + variable.name, variable) is not variable:
            raise InvalidError(f"context: two variables have the name {variable.name!r}")

    def push(kind: str, queue: str, headers: dict[str, str]) -> None:
        for header, variable in named.items():
            value: object = variable.get(None)
            if isinstance(value, str):
                headers.setdefault(header, value)
            elif value is not None:
                kind = type(value).__name__
                raise TypeError(f"{variable.name!r} is a {kind}: only text travels with a job")

    def before(job: Job) -> None:
        headers = job.headers
        values = [(variable, headers[header]) for header, variable in named.items() if header in headers]
        _set.set([(variable, variable.set(value)) for variable, value in values])

    def after(job: Job, outcome: str, seconds: float) -> None:
        for variable, token in _set.get([]):
            variable.reset(token)
        _set.set([])

    dispatcher.add_hooks(before=before, after=after, push=push)
