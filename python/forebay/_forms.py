"""How values of one type are written as what JSON can hold, and read again.

A form writes a value as dicts, lists, text, numbers, booleans and None, and reads these. What it does not
take is a misfit, which learns its path on the way out. Forms for the values that only another library knows
are in `_models.py`; which form an annotation means is `_typed.py`'s to say.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag
from typing import Any

from forebay._codec import culprit, shown


class Misfit(Exception):
    """A value is not what its form takes.

    Attributes:
        text: What was expected, and what it is.
        where: The path from the value that was written or read.
    """

    def __init__(self, text: str, where: str = "") -> None:
        """At the value itself, if nothing is said."""
        super().__init__(text)
        self.text = text
        self.where = where

    def at(self, step: str) -> Misfit:
        """The same, one step further out."""
        self.where = step + self.where
        return self


class Form:
    """A form; this one takes everything as it is.

    Attributes:
        name: What it takes, for messages and for tags.
        typed: Whether anything is written differently than without it.
        shapes: What it is in JSON: "null", "boolean", "integer", "number", "string", "array", "object".
        record: Whether it is an object that takes no harm from one more member.
    """

    name = "Any"
    typed = False
    shapes: frozenset[str] = frozenset()
    record = False

    def write(self, value: Any) -> Any:
        """The value as JSON can hold it."""
        return value

    def read(self, value: Any) -> Any:
        """The value that was written so."""
        return value

    def fits(self, value: object) -> bool:
        """Whether the value is one of these at first sight."""
        return True

    def refuse(self, value: object) -> Misfit:
        """A value that is not for this form to write."""
        return Misfit(f"expected {self.name}, got a {type(value).__qualname__}")

    def reject(self, value: object) -> Misfit:
        """A value that is not for this form to read."""
        return Misfit(f"expected {self.name}, got {shown(value)}")


ANY = Form()


class Scalar(Form):
    """A type that JSON has."""

    def __init__(self, cls: type, shape: str) -> None:
        """This type."""
        self.cls = cls
        self.name = "None" if cls is type(None) else cls.__name__
        self.shapes = frozenset({shape})

    def write(self, value: Any) -> Any:
        if self.fits(value):
            return value
        raise self.refuse(value)

    def read(self, value: Any) -> Any:
        if self.fits(value):
            return value
        raise self.reject(value)

    def fits(self, value: object) -> bool:
        # True is an int too, and nobody means it.
        return isinstance(value, self.cls) and (self.cls is bool or not isinstance(value, bool))


class Number(Scalar):
    """A float, for which a whole number will do."""

    def write(self, value: Any) -> Any:
        if self.fits(value) or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        raise self.refuse(value)

    def read(self, value: Any) -> Any:
        if type(value) is int:
            try:
                return float(value)
            except OverflowError:
                raise Misfit(f"expected a float, got {shown(value)}, which is too large for one") from None
        return super().read(value)


_NOT: dict[type, type] = {date: datetime, int: bool}


class Text(Form):
    """A type whose values are written as text."""

    typed = True
    shapes = frozenset({"string"})

    def __init__(
        self, cls: type, write: Callable[[Any], str], read: Callable[[str], Any], *also: type
    ) -> None:
        """This type, which reads from text, and from values of the types that `also` names."""
        self.cls = cls
        self.name = cls.__name__
        self._write = write
        self._read = read
        self._also = (str, *also)

    def write(self, value: Any) -> Any:
        if self.fits(value):
            return self._write(value)
        raise self.refuse(value)

    def read(self, value: Any) -> Any:
        if not isinstance(value, self._also) or isinstance(value, bool):
            raise self.reject(value)
        text: Any = value
        try:
            return self._read(text)
        except (ValueError, ArithmeticError, TypeError):
            raise self.reject(value) from None

    def fits(self, value: object) -> bool:
        # Not every instance of a derived class: a datetime is no date, and True is no number.
        return isinstance(value, self.cls) and not isinstance(value, _NOT.get(self.cls, ()))


_DURATION = re.compile(
    r"([-+])?P(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)(?:[.,](\d{1,6})\d*)?S)?)?", re.ASCII
)


def _write_duration(value: timedelta) -> str:
    """A duration as ISO 8601 has it, to the microsecond."""
    sign, value = ("-", -value) if value < timedelta() else ("", value)
    seconds = (
        f"{value.seconds}.{value.microseconds:06}".rstrip("0").rstrip(".")
        if value.microseconds
        else value.seconds
    )
    return f"{sign}P{value.days}DT{seconds}S"


def _read_duration(value: str | float) -> timedelta:
    if not isinstance(value, str):
        return timedelta(seconds=value)
    found = _DURATION.fullmatch(value)
    if found is None or value[-1] in "PT":
        raise ValueError
    weeks, days, hours, minutes, seconds = (int(found[i] or 0) for i in range(2, 7))
    parts = {"weeks": weeks, "days": days, "hours": hours, "minutes": minutes, "seconds": seconds}
    duration = timedelta(microseconds=int((found[7] or "0").ljust(6, "0")), **parts)
    return -duration if found[1] == "-" else duration


TEXTS: dict[type, Text] = {
    datetime: Text(datetime, datetime.isoformat, datetime.fromisoformat),
    date: Text(date, date.isoformat, date.fromisoformat),
    time: Text(time, time.isoformat, time.fromisoformat),
    timedelta: Text(timedelta, _write_duration, _read_duration, int, float),
    Decimal: Text(Decimal, str, Decimal, int),
}
"""The forms of the types that are always the same; those of UUID and paths are made when they are met."""

_WHOLE = re.compile(r"-?\d{1,4000}", re.ASCII)


def _read_whole(value: str) -> int:
    if not _WHOLE.fullmatch(value):
        raise ValueError
    return int(value)


WHOLE = Text(int, str, _read_whole)
"""A whole number as the key of an object."""

SCALARS: dict[Any, Form] = {
    str: Scalar(str, "string"),
    int: Scalar(int, "integer"),
    float: Number(float, "number"),
    bool: Scalar(bool, "boolean"),
    None: Scalar(type(None), "null"),
    type(None): Scalar(type(None), "null"),
}


class Octets(Form):
    """Bytes, in base64 where they must be text."""

    typed = True
    shapes = frozenset({"string"})

    def __init__(self, cls: type[bytes | bytearray], text: bool) -> None:
        """Of `bytes` or `bytearray`."""
        self.cls = cls
        self.name = cls.__name__
        self._text = text

    def write(self, value: Any) -> Any:
        if not self.fits(value):
            raise self.refuse(value)
        return base64.b64encode(value).decode() if self._text else bytes(value)

    def read(self, value: Any) -> Any:
        if isinstance(value, bytes):
            return self.cls(value)
        if not isinstance(value, str):
            raise self.reject(value)
        try:
            return self.cls(base64.b64decode(value, validate=True))
        except (binascii.Error, ValueError):
            raise Misfit(f"expected {self.name} in base64, got {shown(value)}") from None

    def fits(self, value: object) -> bool:
        return isinstance(value, self.cls)


class Members(Form):
    """Many of one form: a list, a set, a tuple of any length."""

    shapes = frozenset({"array"})

    def __init__(
        self, name: str, item: Form, takes: type | tuple[type, ...], makes: Callable[[list[Any]], Any]
    ) -> None:
        """What `takes` says is written, what `makes` makes of a list is read."""
        self.name = name
        self.item = item
        self.typed = item.typed or makes is not list
        self._takes = takes
        self._makes = makes
        self._sorts = makes in (set, frozenset)

    def write(self, value: Any) -> Any:
        if not self.fits(value):
            raise self.refuse(value)
        parts = _each(self.item.write, value)
        # A set has another order in every process, and a keyed push is compared by its bytes.
        return sorted(parts, key=_rank) if self._sorts else parts

    def read(self, value: Any) -> Any:
        if not isinstance(value, list | tuple):
            raise self.reject(value)
        parts = _each(self.item.read, value)
        try:
            return self._makes(parts)
        except TypeError as error:
            raise Misfit(f"expected {self.name}: {error}") from None

    def fits(self, value: object) -> bool:
        return isinstance(value, self._takes) and not isinstance(value, str | bytes | bytearray)


def _each(convert: Callable[[Any], Any], values: Any) -> list[Any]:
    parts: list[Any] = []
    try:
        for value in values:
            parts.append(convert(value))
    except Misfit as misfit:
        raise misfit.at(f"[{len(parts)}]") from None
    return parts


def _rank(value: object) -> tuple[str, Any, str]:
    """An order of whatever has been written."""
    if type(value) in (int, float):
        return "", value, ""
    return type(value).__name__, 0, value if isinstance(value, str) else repr(value)


class Row(Form):
    """A tuple with a form for each place."""

    typed = True
    shapes = frozenset({"array"})

    def __init__(self, name: str, items: list[Form]) -> None:
        """These, in this order."""
        self.name = name
        self.items = items

    def write(self, value: Any) -> Any:
        if not isinstance(value, tuple) or len(value) != len(self.items):
            raise self.refuse(value)
        return _row([item.write for item in self.items], value)

    def read(self, value: Any) -> Any:
        if not isinstance(value, list | tuple) or len(value) != len(self.items):
            raise self.reject(value)
        return tuple(_row([item.read for item in self.items], value))

    def fits(self, value: object) -> bool:
        return isinstance(value, tuple) and len(value) == len(self.items)


def _row(converts: list[Callable[[Any], Any]], values: Any) -> list[Any]:
    parts: list[Any] = []
    try:
        for convert, value in zip(converts, values, strict=False):
            parts.append(convert(value))
    except Misfit as misfit:
        raise misfit.at(f"[{len(parts)}]") from None
    return parts


class Table(Form):
    """A dict: an object where keys are text, an array of pairs where they are not."""

    def __init__(self, name: str, key: Form, value: Form, makes: type[dict[Any, Any]]) -> None:
        """From keys of one form to values of another."""
        self.name = name
        self.key = key
        self.value = value
        self._makes = makes
        self._object = key is ANY or key.shapes <= {"string"}
        self.typed = key.typed or value.typed or makes is not dict or not self._object
        self.shapes = frozenset({"object" if self._object else "array"})

    def write(self, value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise self.refuse(value)
        pairs = ((self._key(key, self.key.write), key, part) for key, part in value.items())
        if self._object:
            return {name: _member(self.value.write, key, part) for name, key, part in pairs}
        return [[name, _member(self.value.write, key, part)] for name, key, part in pairs]

    def read(self, value: Any) -> Any:
        try:
            pairs = list(value.items() if self._object else map(tuple, value))
            if any(len(pair) != 2 for pair in pairs):
                raise self.reject(value)
        except (AttributeError, TypeError):
            raise self.reject(value) from None
        made = self._makes()
        for key, part in pairs:
            try:
                made[self._key(key, self.key.read)] = _member(self.value.read, key, part)
            except TypeError as error:
                raise Misfit(f"expected {self.name}: {error}") from None
        return made

    def _key(self, key: Any, convert: Callable[[Any], Any]) -> Any:
        try:
            return convert(key)
        except Misfit as misfit:
            raise Misfit(f"the key {key!r:.60}: {misfit.text}") from None

    def fits(self, value: object) -> bool:
        return isinstance(value, Mapping)


def _member(convert: Callable[[Any], Any], key: object, value: Any) -> Any:
    try:
        return convert(value)
    except Misfit as misfit:
        raise misfit.at(f".{key}") from None


class Choice(Form):
    """An enumeration: by the values of its members if JSON has them all, by their names otherwise."""

    typed = True

    def __init__(self, cls: type[Enum]) -> None:
        """This one."""
        self.cls = cls
        self.name = cls.__name__
        values = [member.value for member in cls]
        self._flag = issubclass(cls, Flag)
        self._by_value = self._flag or all(type(value) in (str, int) for value in values)
        texts = not self._by_value or all(isinstance(value, str) for value in values)
        ints = self._by_value and all(isinstance(value, int) for value in values)
        self.shapes = frozenset(
            {"string"} if texts and not self._flag else {"integer"} if ints else {"string", "integer"}
        )

    def write(self, value: Any) -> Any:
        if not isinstance(value, self.cls):
            raise self.refuse(value)
        return value.value if self._by_value else value.name

    def read(self, value: Any) -> Any:
        try:
            if not self._by_value:
                return self.cls[value]
            if type(value) is (int if self._flag else type(value)) and type(value) in (str, int):
                return self.cls(value)
        except (KeyError, ValueError, TypeError):
            pass
        known = ", ".join(repr(m.value if self._by_value else m.name) for m in list(self.cls)[:10])
        raise Misfit(f"expected {self.name}, one of {known}, got {shown(value)}") from None

    def fits(self, value: object) -> bool:
        return isinstance(value, self.cls)


class OneOf(Form):
    """A few values, of which each may have a form of its own."""

    def __init__(self, pairs: list[tuple[Any, Any]], shapes: frozenset[str]) -> None:
        """These, each with what it is written as."""
        self.name = f"one of {', '.join(repr(value) for value, _ in pairs)}"
        self.typed = any(value is not written for value, written in pairs)
        self.shapes = shapes
        self._write = {(type(value), value): written for value, written in pairs}
        self._read = {(type(written), written): value for value, written in pairs}
        # Bytes come as they are where nothing else comes with them.
        self._read |= {(bytes, value): value for value, _ in pairs if isinstance(value, bytes)}

    def write(self, value: Any) -> Any:
        try:
            return self._write[type(value), value]
        except (KeyError, TypeError):
            raise Misfit(f"expected {self.name}, got {value!r:.60}") from None

    def read(self, value: Any) -> Any:
        try:
            return self._read[type(value), value]
        except (KeyError, TypeError):
            raise self.reject(value) from None

    def fits(self, value: object) -> bool:
        try:
            return (type(value), value) in self._write
        except TypeError:
            return False


class Maybe(Form):
    """A form, or None."""

    def __init__(self, item: Form) -> None:
        """This one."""
        self.item = item
        self.name = f"{item.name} or None"
        self.typed = item.typed
        self.shapes = item.shapes | {"null"}

    def write(self, value: Any) -> Any:
        return None if value is None else self.item.write(value)

    def read(self, value: Any) -> Any:
        return None if value is None else self.item.read(value)

    def fits(self, value: object) -> bool:
        return value is None or self.item.fits(value)


TAG = "$type"
"""The member that says which of several types an object is."""


class Either(Form):
    """One of several forms.

    JSON tells some of them apart. Of those that look the same there, text is written as it is, and the others
    with a tag: a record as an object with one more member, anything else as its "value". What has no tag is
    what JSON has it as, if one of them is that, or else read by the first that takes it.
    """

    typed = True

    def __init__(self, members: list[Form]) -> None:
        """One of these, of which none takes everything."""
        # A member of an enumeration may be text as well, and is more than that.
        self.members = sorted(members, key=lambda member: isinstance(member, Scalar))
        # Text that looks like a date was text, if it may be that: a date would have a tag.
        self._read_by = sorted(members, key=lambda member: not isinstance(member, Scalar))
        self.name = " or ".join(member.name for member in members)
        self.shapes = frozenset().union(*(member.shapes for member in members))
        alike = [a for a in members if any(b is not a and a.shapes & b.shapes for b in members)]
        if any(member not in SCALARS.values() for member in alike):
            alike += [member for member in members if "object" in member.shapes and member not in alike]
            self.shapes |= {"object"}
        self._tags = {member.name: member for member in alike if not isinstance(member, Scalar)}
        self.typed = bool(self._tags) or any(member.typed for member in members)

    def write(self, value: Any) -> Any:
        likely = [member for member in self.members if member.fits(value)]
        for member in likely + [member for member in self.members if member not in likely]:
            try:
                written = member.write(value)
            except Misfit as misfit:
                if len(likely) == 1 and member is likely[0]:
                    raise misfit from None
                continue
            if self._tags.get(member.name) is not member:
                return written
            return {TAG: member.name, **written} if member.record else {TAG: member.name, "value": written}
        raise self.refuse(value)

    def read(self, value: Any) -> Any:
        if self._tags and isinstance(value, dict) and TAG in value:
            return self._read_tagged(value)
        shape = _shape(value)
        likely = [member for member in self._read_by if shape in member.shapes]
        if not likely and shape == "integer":
            likely = [member for member in self._read_by if "number" in member.shapes]
        for member in likely:
            try:
                return member.read(value)
            except Misfit as misfit:
                if len(likely) == 1:
                    raise misfit from None
        raise self.reject(value)

    def _read_tagged(self, value: dict[str, Any]) -> Any:
        tag = value[TAG]
        member = self._tags.get(tag) if isinstance(tag, str) else None
        if member is None:
            raise Misfit(f"expected {self.name}, got an object of the {TAG} {tag!r:.60}")
        if member.record:
            return member.read({name: part for name, part in value.items() if name != TAG})
        if "value" not in value:
            raise Misfit(f'expected {self.name}: the member "value" is missing')
        return member.read(value["value"])

    def fits(self, value: object) -> bool:
        return any(member.fits(value) for member in self.members)


def _shape(value: object) -> str:
    """What JSON has the value as."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str() | bytes():
            return "string"
        case dict():
            return "object"
    return "array"


class Unresolved(Form):
    """An annotation that names what cannot be found: as if there were none, but that a refusal says so."""

    typed = True

    def __init__(self, reason: str) -> None:
        """For this reason."""
        self._reason = reason

    def write(self, value: Any) -> Any:
        found = culprit(value, path="")
        if found is None:
            return value
        where, _, text = found.partition(": ")
        raise Misfit(f"{text}; {self._reason}", where)


class Impossible(Form):
    """A type that cannot be read again, whatever is written."""

    typed = True
    shapes = frozenset({"object"})

    def __init__(self, cls: type, reason: str) -> None:
        """For this reason."""
        self.cls = cls
        self.name = cls.__name__
        self._reason = reason

    def write(self, value: Any) -> Any:
        raise Misfit(f"a {self.name} cannot be written: {self._reason}")

    read = write

    def fits(self, value: object) -> bool:
        return isinstance(value, self.cls)
