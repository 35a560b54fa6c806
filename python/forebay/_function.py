"""What may be a handler, and what its jobs are called."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from forebay.errors import InvalidError, UnsupportedError


def check(function: object) -> bool:
    """Whether a call makes a coroutine. Refuses what would never do its work when it is called.

    Raises:
        TypeError: It, or an instance of the class that it is, cannot be called.
        UnsupportedError: It returns at once with a generator, whose body nobody would run.
    """
    if not callable(function):
        raise TypeError(f"{_shown(function)} cannot be a handler: it cannot be called")
    bodies = _bodies(function)
    for body in bodies:
        if inspect.isgeneratorfunction(body) or inspect.isasyncgenfunction(body):
            raise UnsupportedError(
                f"{_shown(function)} is a generator, whose body a call does not run: return a list"
            )
    return any(inspect.iscoroutinefunction(body) for body in bodies)


def name(function: Callable[..., Any]) -> str:
    """The name of a function or class, for those who give no kind.

    Raises:
        InvalidError: It has none.
    """
    found = getattr(function, "__name__", None)
    if not isinstance(found, str):
        raise InvalidError(f"{_shown(function)} has no name for its jobs; say which: handler(kind=...)")
    return found


def _bodies(function: Callable[..., Any]) -> list[object]:
    """What a call may run: the function, what is inside of partials, and what makes an object callable."""
    bodies: list[object] = [function, _call_of(function)]
    while isinstance(function, functools.partial):
        function = function.func
        bodies += [function, _call_of(function)]
    return bodies


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
