"""What may be a handler, and what its jobs are called."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from forebay.errors import InvalidError, UnsupportedError


def check(function: object) -> None:
    """Refuses what looks like a handler and would never do its work when it is called.

    Raises:
        TypeError: It, or an instance of the class that it is, cannot be called.
        UnsupportedError: It returns at once with a coroutine or a generator, whose body nobody would run.
    """
    if not callable(function):
        raise TypeError(f"{_shown(function)} cannot be a handler: it cannot be called")
    for body in (function, _call_of(function)):
        if inspect.iscoroutinefunction(body) or inspect.isasyncgenfunction(body):
            raise UnsupportedError(
                f"{_shown(function)} is async; handlers are plain functions so far: have one call asyncio.run"
            )
        if inspect.isgeneratorfunction(body):
            raise UnsupportedError(
                f"{_shown(function)} is a generator, whose body a call does not run;"
                " handlers are plain functions: return a list"
            )


def name(function: Callable[..., Any]) -> str:
    """The name of a function or class, for those who give no kind.

    Raises:
        InvalidError: It has none.
    """
    found = getattr(function, "__name__", None)
    if not isinstance(found, str):
        raise InvalidError(f"{_shown(function)} has no name for its jobs; say which: handler(kind=...)")
    return found


def _call_of(function: Callable[..., Any]) -> object:
    """What runs when an object, or an instance of a class, is called."""
    cls = function if isinstance(function, type) else type(function)
    for base in cls.__mro__:
        if "__call__" in vars(base):
            return vars(base)["__call__"]
    raise TypeError(f"{_shown(function)} cannot be a handler: its instances cannot be called")


def _shown(function: object) -> str:
    """The function by its name, or else by as much of its text as a message bears."""
    text = getattr(function, "__qualname__", None)
    return text if isinstance(text, str) else f"{function!r:.80}"
