"""What may be a handler, and what its jobs are called."""

from __future__ import annotations

import functools
import importlib
import inspect
import re
import types
from collections.abc import Callable
from typing import Any, TypeAlias

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
    bodies: list[object] = [function, call_of(function)]
    while isinstance(function, functools.partial):
        function = function.func
        bodies += [function, call_of(function)]
    return bodies


def call_of(function: Callable[..., Any]) -> object:
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


_PLAIN = frozenset({None, int, float, str, bool, type(None), object, list, dict, Any})
"""Annotations of values that are written the same without them."""
_WORDS = frozenset(["", "None", *"int float str bool object list dict Any typing Optional Union".split()])
"""Of what such annotations are made when they are text."""


def describe(function: Callable[..., Any], pass_job: bool, fresh: bool) -> tuple[bool, _Shape | None]:
    """Whether the annotations of a function may say how its values are written, and which calls it takes.

    This runs for every handler as its module is imported, so it looks at what is at hand and resolves
    nothing.
    """
    body = _body(function, fresh)
    if body is None:
        return True, None
    code, skipped = body.__code__, int(pass_job) + (body is not function)
    skipped_names = code.co_varnames[: min(skipped, code.co_argcount)]
    hints = getattr(body, "__annotations__", {})
    said = any(not _is_plain(hint) for name, hint in hints.items() if name not in skipped_names)
    return said, _shape(body, skipped)


def _is_plain(hint: object) -> bool:
    """Whether an annotation says nothing that JSON does not know by itself, as far as can be told at once."""
    if isinstance(hint, str):
        rest = hint.replace("dict[str,", "")
        # Other keys than text are written as text.
        return "dict[" not in rest and _WORDS.issuperset(re.split(r"\W+", rest))
    if isinstance(hint, types.GenericAlias) and hint.__origin__ in (list, dict):
        args = hint.__args__ if hint.__origin__ is list else hint.__args__[1:]
        return (args is hint.__args__ or hint.__args__[0] is str) and all(map(_is_plain, args))
    if isinstance(hint, types.UnionType):
        return all(map(_is_plain, hint.__args__))
    try:
        return hint in _PLAIN
    except TypeError:  # An annotation that is no type and cannot be hashed.
        return False


def _body(function: Callable[..., Any], fresh: bool) -> types.FunctionType | None:
    """The function of Python that a call of a handler runs, if nothing is between the two."""
    plain = isinstance(function, types.FunctionType)
    body = function if plain and not fresh else call_of(function)
    if not isinstance(body, types.FunctionType) or hasattr(body, "__wrapped__"):
        return None
    return body


_Shape: TypeAlias = tuple[list[str | None], int, int, bool, bool]


def _shape(body: types.FunctionType, skipped: int) -> _Shape | None:
    """The parameters, without the first ones: names, how many by position, those without default as bits, and
    whether it takes any more by position, and by name."""  # noqa: D205, D209
    code = body.__code__
    positional, named = code.co_argcount, code.co_kwonlyargcount
    starred = bool(code.co_flags & inspect.CO_VARARGS)
    if (positional < skipped and not starred) or positional + named > 64:
        return None
    names: list[str | None] = list(code.co_varnames[: positional + named])
    names[: code.co_posonlyargcount] = [None] * code.co_posonlyargcount
    optional = {*range(positional - len(body.__defaults__ or ()), positional)}
    optional |= {i for i in range(positional, positional + named) if names[i] in (body.__kwdefaults__ or {})}
    start = min(skipped, positional)
    required = sum(1 << (i - start) for i in range(start, len(names)) if i not in optional)
    return names[start:], positional - start, required, starred, bool(code.co_flags & inspect.CO_VARKEYWORDS)


def complain(
    function: Callable[..., Any], pass_job: bool, fresh: bool, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """Refuses a call that the function would refuse.

    Raises:
        TypeError: It would; the text is as Python's own.
    """
    called = signature(function, fresh)
    try:
        if called is not None:
            called.bind(*([None] if pass_job else []), *args, **kwargs)
    except TypeError as error:
        raise TypeError(f"{_shown(function)}{called} cannot be called so: {error}") from None


def signature(function: Callable[..., Any], fresh: bool) -> inspect.Signature | None:
    """The parameters of a handler, its job among them if it takes that; None if nobody can tell."""
    try:
        if not fresh:
            return inspect.signature(function)
        called = inspect.signature(call_of(function))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return called.replace(parameters=list(called.parameters.values())[1:])


def whereabouts(handler: Any) -> tuple[Callable[[str, str], Any], tuple[str, str]]:
    """How a handler is pickled: as a function, by its module and its name there.

    Raises:
        TypeError: It is not to be found there, as one in a function, or one with options of its own.
    """
    function = handler.__wrapped__
    place = (getattr(function, "__module__", None) or "", getattr(function, "__qualname__", ""))
    try:
        found = find(*place)
    except Exception:
        found = None
    if found is not handler:
        raise TypeError(
            f"the handler of kind {handler.kind!r} cannot be pickled: it is not what {'.'.join(place)} is; "
            "give it a name in its module, and options where it is pushed"
        )
    return find, place


def find(module: str, name: str) -> Any:
    """What has this name in a module."""
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found
