"""What the annotations of a handler make of its values where they leave the process.

A plan is worked out once per handler, when the first value is written or read. An annotation that says
nothing that JSON does not know by itself (`int`, `list[str]`, `dict[str, Any]`, or none at all) leaves its
value alone; any other is written by its form, and what does not fit is refused, at the push with its path,
and at the reader as a job that no attempt can help.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import sys
import types
import typing
from collections import OrderedDict, abc, deque
from collections.abc import Callable
from enum import Enum
from pathlib import PurePath
from typing import Any, NoReturn, cast, get_args, get_origin
from uuid import UUID

from forebay import _function
from forebay._codec import arguments
from forebay._forms import (
    ANY,
    SCALARS,
    TEXTS,
    WHOLE,
    Choice,
    Either,
    Form,
    Impossible,
    Maybe,
    Members,
    Misfit,
    Octets,
    OneOf,
    Row,
    Table,
    Text,
    Unresolved,
)
from forebay._models import Named, NamedRow, Part, Record, Typed, of_library
from forebay.errors import DecodeError, EncodeError

_LISTS: tuple[Any, ...] = (list, abc.Sequence, abc.MutableSequence, abc.Collection, abc.Iterable)
_SETS: dict[Any, type] = {set: set, abc.MutableSet: set, abc.Set: frozenset, frozenset: frozenset}
_TABLES: dict[Any, type[dict[Any, Any]]] = {
    dict: dict,
    abc.Mapping: dict,
    abc.MutableMapping: dict,
    OrderedDict: OrderedDict,
}
_WRAPPERS: set[Any] = {
    typing.Required,
    typing.NotRequired,
    typing.Final,
    getattr(typing, "ReadOnly", typing.Final),
}


class Builder:
    """Finds the forms of annotations."""

    def __init__(self, text: bool) -> None:
        """For a codec that takes bytes as they are, or one that takes `text`."""
        self._text = text
        self._known: dict[Any, Form] = {}

    def form(self, hint: Any) -> Form:
        """The form of an annotation; of one that says nothing to us, `ANY`."""
        try:
            known = self._known.get(hint)
        except TypeError:  # It cannot be hashed, as some Annotated cannot.
            return self._find(hint)
        if known is None:
            known = self._known[hint] = self._find(hint)
        return known

    def _find(self, hint: Any) -> Form:
        if hint is Any or hint is object or isinstance(hint, str | typing.ForwardRef):
            return ANY
        if hint in SCALARS:
            return SCALARS[hint]
        if isinstance(hint, typing.NewType):
            return self.form(hint.__supertype__)
        if isinstance(hint, typing.TypeVar):
            return ANY if hint.__bound__ is None else self.form(hint.__bound__)
        if type(hint).__name__ == "TypeAliasType":
            return self.form(hint.__value__)
        origin, args = get_origin(hint), get_args(hint)
        if origin is typing.Annotated or origin in _WRAPPERS:
            return self.form(args[0])
        if origin is typing.Literal:
            return self._literal(args)
        if origin is typing.Union or isinstance(hint, types.UnionType):
            return self._union(args)
        if isinstance(origin, type):
            return self._generic(hint, origin, args)
        return self._class(hint) if isinstance(hint, type) else ANY

    # ---- of several ---------------------------------------------------------------------------------------

    def _literal(self, values: tuple[Any, ...]) -> Form:
        forms = [self.form(type(value)) for value in values]
        shapes = frozenset().union(*(form.shapes for form in forms))
        pairs = [(value, form.write(value)) for value, form in zip(values, forms, strict=True)]
        if len({(type(written), written) for _, written in pairs}) < len(pairs):
            # Two of them are written the same: members of enumerations by their whole names.
            shapes |= {"string"}
            pairs = [(value, str(value) if isinstance(value, Enum) else written) for value, written in pairs]
        return OneOf(pairs, shapes)

    def _union(self, args: tuple[Any, ...]) -> Form:
        hints = [arg for arg in args if arg is not type(None)]
        forms = [self.form(hint) for hint in hints]
        if any(form is ANY for form in forms):
            return ANY
        whole = forms[0] if len(forms) == 1 else Either(_named_apart(forms, hints))
        return whole if len(hints) == len(args) else Maybe(whole)

    # ---- containers ---------------------------------------------------------------------------------------

    def _generic(self, hint: Any, origin: type, args: tuple[Any, ...]) -> Form:
        name = _name(hint)
        if origin is tuple:
            return self._tuple(name, args)
        found = self._container(name, origin, args)
        return found if found is not None else self._class(hint, origin, args)

    def _container(self, name: str, cls: Any, args: tuple[Any, ...]) -> Form | None:
        if cls in _LISTS:
            return Members(name, self.form(args[0]) if args else ANY, cls, list)
        if cls in _SETS:
            return Members(name, self.form(args[0]) if args else ANY, cls, _SETS[cls])
        if cls is deque:
            return Members(name, self.form(args[0]) if args else ANY, deque, deque)
        if cls in _TABLES:
            key, value = args if len(args) == 2 else (Any, Any)
            names = WHOLE if key is int else self.form(key)
            return Table(name, names, self.form(value), _TABLES[cls])
        return None

    def _tuple(self, name: str, args: tuple[Any, ...]) -> Form:
        if len(args) == 2 and args[1] is Ellipsis:
            return Members(name, self.form(args[0]), tuple, tuple)
        return Row(name, [self.form(arg) for arg in args])

    # ---- classes ------------------------------------------------------------------------------------------

    def _class(self, hint: Any, cls: type | None = None, args: tuple[Any, ...] = ()) -> Form:
        cls = cast("type", cls or hint)
        if cls in TEXTS:
            return TEXTS[cls]
        if cls is bytes or cls is bytearray:
            return Octets(cls, self._text)
        if cls is UUID:
            return Text(UUID, str, UUID)
        if issubclass(cls, PurePath):
            return Text(cls, str, cls)
        if issubclass(cls, Enum):
            return Choice(cls) if list(cls) else ANY
        if cls is tuple:
            return Members("tuple", ANY, tuple, tuple)
        if (found := of_library(hint, cls)) is not None:
            return found
        if (found := self._container(cls.__name__, cls, ())) is not None:
            return found
        return self._named(hint, cls, args)

    def _named(self, hint: Any, cls: Any, args: tuple[Any, ...]) -> Form:
        if hasattr(cls, "__required_keys__"):
            form: Named = Typed(cls, cls.__name__)
        elif dataclasses.is_dataclass(cls):
            form = Record(cast("type", cls), _name(hint))
        elif issubclass(cls, tuple) and hasattr(cls, "_fields"):
            form = NamedRow(cls, cls.__name__)
        else:
            return ANY
        # Before its parts are looked at: one of them may be of the same type.
        self._known[hint] = form
        try:
            hints = _substituted(_hints_of(cls), cls, args)
        except Exception as error:
            return Unresolved(f"the annotations of {cls.__name__} cannot be resolved: {error}")
        if isinstance(form, Typed):
            form.fill(
                [Part(name, self.form(part), _is_required(cls, name, part)) for name, part in hints.items()]
            )
        elif isinstance(form, NamedRow):
            names, defaults = cls._fields, cls._field_defaults
            form.parts = [
                Part(name, self._part(hints, name, defaults), name not in defaults) for name in names
            ]
        elif reason := self._record(form, hints):
            return Impossible(cls, reason)
        return form

    def _part(self, hints: dict[str, Any], name: str, defaults: dict[str, Any]) -> Form:
        return _or_default(self.form(hints.get(name, Any)), defaults.get(name, ...))

    def _record(self, form: Named, hints: dict[str, Any]) -> str | None:
        """Fills in the parts of a dataclass; why it cannot be made of them, if it cannot."""
        missing = dataclasses.MISSING
        fields = form.cls.__dataclass_fields__  # type: ignore[attr-defined]
        for field in fields.values():
            kind = field._field_type
            needed = field.default is missing and field.default_factory is missing
            if kind is dataclasses._FIELD_INITVAR and needed:  # type: ignore[attr-defined]
                return f"{field.name} is an InitVar without a default, which it does not keep"
            if kind is dataclasses._FIELD and field.init:  # type: ignore[attr-defined]
                own = _or_default(self.form(hints.get(field.name, Any)), field.default)
                form.parts.append(Part(field.name, own, needed))
        return None


def _or_default(form: Form, default: object) -> Form:
    """What a part takes whose default is None is None too, whatever its annotation says."""
    return Maybe(form) if default is None and form is not ANY and not form.fits(None) else form


def _is_required(cls: Any, name: str, hint: Any) -> bool:
    """Whether a typed dict must have a member. It does not know that itself if its annotations are text."""
    origin = get_origin(hint)
    return origin is typing.Required or (origin is not typing.NotRequired and name in cls.__required_keys__)


def _named_apart(forms: list[Form], hints: list[Any]) -> list[Form]:
    """The forms, of which no two classes have the same name."""
    names = [form.name for form in forms]
    for form, hint in zip(forms, hints, strict=True):
        if names.count(form.name) > 1 and isinstance(form, Named):
            form.name = f"{hint.__module__}.{hint.__qualname__}"
    return forms


def _name(hint: Any) -> str:
    """An annotation as somebody would write it."""
    if isinstance(hint, type) and not get_args(hint):
        return hint.__name__
    args = get_args(hint)
    if not args:
        return "..." if hint is Ellipsis else str(hint).removeprefix("typing.")
    origin = getattr(get_origin(hint), "__name__", str(get_origin(hint)))
    return f"{origin}[{', '.join(_name(arg) for arg in args)}]"


def _hints_of(cls: type) -> dict[str, Any]:
    # A class may name itself, and others of the function that it is defined in cannot be found.
    return typing.get_type_hints(cls, localns={cls.__name__: cls}, include_extras=True)


def _substituted(hints: dict[str, Any], cls: Any, args: tuple[Any, ...]) -> dict[str, Any]:
    """The annotations of a generic class with its arguments in place of its parameters."""
    if not args:
        return hints
    given = dict(zip(getattr(cls, "__parameters__", ()), args, strict=False))

    def put(hint: Any) -> Any:
        if hint in given:
            return given[hint]
        inner = getattr(hint, "__parameters__", ())
        return hint[tuple(given.get(parameter, parameter) for parameter in inner)] if inner else hint

    return {name: put(hint) for name, hint in hints.items()}


# ---- plans ----------------------------------------------------------------------------------------------


class Plan:
    """How the values of one handler are written and read. A function is None where nothing is to be done."""

    def __init__(
        self, positional: list[tuple[str, Form]], rest: Form, named: dict[str, Form], more: Form, result: Form
    ) -> None:
        """Of a function with these parameters, those of `*args` and `**kwargs`, and this result."""
        self._positional = positional
        self._rest = rest
        self._named = named
        self._more = more
        self._result = result
        self._first = positional[0] if positional else ("", rest)
        forms = [form for _, form in positional] + [*named.values(), rest, more]
        calls, ones, results = any(f.typed for f in forms), self._first[1].typed, result.typed
        self.write_call = self._write_call if calls else None
        self.read_call = self._read_call if calls else None
        self.write_one = self._write_one if ones else None
        self.read_one = self._read_one if ones else None
        self.write_result = self._write_result if results else None
        self.read_result = self._read_result if results else None

    @property
    def empty(self) -> bool:
        """Whether nothing is to be done at all."""
        return self.write_call is None and self.write_one is None and self.write_result is None

    def _write_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        try:
            return self._converted("write", args, kwargs)
        except RecursionError:
            raise EncodeError("$: the value contains itself, or is nested too deeply") from None

    def _read_call(self, call: object) -> tuple[tuple[Any, ...], dict[str, Any]]:
        try:
            made = self._converted("read", *arguments(call))
        except RecursionError:
            raise DecodeError("$: the value is nested too deeply") from None
        return tuple(made["args"]), made["kwargs"]

    def _converted(self, way: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        made: list[Any] = []
        named: dict[str, Any] = {}
        for i, value in enumerate(args):
            name, form = self._positional[i] if i < len(self._positional) else ("", self._rest)
            made.append(_convert(form, way, value, f"$.args[{i}]", name) if form.typed else value)
        for name, value in kwargs.items():
            form = self._named.get(name, self._more)
            named[name] = _convert(form, way, value, f"$.kwargs.{name}", name) if form.typed else value
        return {"args": made, "kwargs": named}

    def _write_one(self, value: object) -> object:
        return _convert(self._first[1], "write", value, "$", self._first[0])

    def _read_one(self, value: object) -> object:
        return _convert(self._first[1], "read", value, "$", self._first[0])

    def _write_result(self, value: object) -> object:
        return _convert(self._result, "write", value, "$", None)

    def _read_result(self, value: object) -> object:
        return _convert(self._result, "read", value, "$", None)


def _convert(form: Form, way: str, value: Any, path: str, name: str | None) -> Any:
    """The value, written or read; a misfit is an error that names its path and the parameter."""
    try:
        return form.write(value) if way == "write" else form.read(value)
    except Misfit as misfit:
        _raise(misfit, way, path, name)
    except RecursionError:
        _raise(Misfit("the value contains itself, or is nested too deeply"), way, path, name)


def _raise(misfit: Misfit, way: str, path: str, name: str | None) -> NoReturn:
    whose = "the result" if name is None else f"parameter {name!r}" if name else "*args"
    error = EncodeError if way == "write" else DecodeError
    raise error(f"{path}{misfit.where} ({whose}): {misfit.text}") from None


def plan(function: Callable[..., Any], pass_job: bool, fresh: bool, takes: str) -> Plan | None:
    """What the annotations of a handler say, if anything, for codecs that take "json", "bytes" or "objects".

    What cannot be resolved is taken as not annotated.
    """
    called = _function.signature(function, fresh) if takes != "objects" else None
    if called is None:
        return None
    builder = Builder(takes == "json")
    hints, lost = _hints(function, fresh)

    def form(parameter: inspect.Parameter) -> Form:
        if reason := lost.get(parameter.name):
            return Unresolved(reason)
        return _or_default(builder.form(hints.get(parameter.name, Any)), parameter.default)

    kinds = inspect.Parameter
    parameters = list(called.parameters.values())
    if pass_job and parameters and parameters[0].kind is not kinds.VAR_POSITIONAL:
        del parameters[0]
    by_place = (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)
    by_name = (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)
    of_kind = {p.kind: form(p) for p in parameters if p.kind not in {*by_place, *by_name}}
    found = Plan(
        [(p.name, form(p)) for p in parameters if p.kind in by_place],
        of_kind.get(kinds.VAR_POSITIONAL, ANY),
        {p.name: form(p) for p in parameters if p.kind in by_name},
        of_kind.get(kinds.VAR_KEYWORD, ANY),
        Unresolved(lost["return"]) if "return" in lost else builder.form(hints.get("return", Any)),
    )
    return None if found.empty else found


def _hints(function: Any, fresh: bool) -> tuple[dict[str, Any], dict[str, str]]:
    """The annotations of what a handler calls, and why others cannot be resolved."""
    body = _body(function, fresh)
    own = getattr(body, "__annotations__", None)
    if not isinstance(own, dict):
        return {}, {}
    module = sys.modules.get(getattr(body, "__module__", "") or "")
    there = getattr(body, "__globals__", None) or getattr(module, "__dict__", {})
    near = _enclosing(body)
    hints: dict[str, Any] = {}
    lost: dict[str, str] = {}
    for name, hint in own.items():
        one = types.SimpleNamespace(__annotations__={name: hint})
        try:
            hints |= typing.get_type_hints(one, globalns=there, localns=near, include_extras=True)
        except Exception as error:
            shown = hint if isinstance(hint, str) else _name(hint)
            lost[name] = f"its annotation {shown!r} cannot be resolved here: {error}"
    return hints, lost


def _body(function: Any, fresh: bool) -> Any:
    """The function whose parameters a call of a handler has."""
    body: Any = inspect.unwrap(function)
    while not fresh and isinstance(body, functools.partial):
        body = inspect.unwrap(body.func)
    if fresh or not isinstance(body, types.FunctionType | types.MethodType):
        body = _function.call_of(body)
    return inspect.unwrap(body)


def _enclosing(body: Any) -> dict[str, Any]:
    """What the function has of the functions around it."""
    names = getattr(getattr(body, "__code__", None), "co_freevars", ())
    found = {}
    for name, cell in zip(names, getattr(body, "__closure__", None) or (), strict=False):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # It has no value yet.
            continue
    return found
