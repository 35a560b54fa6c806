"""What values are written with when they must leave the process.

JSON is the native half's (`python/src/json`), which leaves to this module what is not of the language's own
types, and what goes wrong. The other codecs are here.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from forebay.codec import Codec
from forebay.errors import DecodeError, EncodeError, Fatal, InvalidError

MSGPACK = "application/vnd.msgpack"
PICKLE = "application/x-python-pickle"

_DEEPEST = 200
"""Deeper values, which may contain themselves, are not searched."""


class Unreadable(DecodeError, Fatal):
    """What a job carries cannot be read, and no further attempt can."""


def hopeless(error: BaseException) -> BaseException:
    """The error of reading what a job carries, as one that fails the job."""
    if not isinstance(error, Exception):
        return error
    text = str(error) if isinstance(error, DecodeError) else f"{type(error).__name__}: {error}"
    return Unreadable(f"the job cannot be read: {text}")


# ---- JSON -----------------------------------------------------------------------------------------------


def encode(value: object, whose: str) -> bytes:
    """The value as JSON: exact for every int, without NaN, without escapes that UTF-8 does not need.

    Raises:
        EncodeError: It names the part of the value that JSON cannot hold.
    """
    try:
        return json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
    except Exception as error:
        where = culprit(value, whose) or f"$: the value cannot be written as JSON: {error}"
        raise EncodeError(where) from None


def decode(text: bytes) -> object:
    """The value that JSON text stands for: of two members of one name the last, and no NaN.

    Raises:
        DecodeError: It is not JSON, or nested more deeply than the interpreter bears.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except DecodeError:
        raise
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"this is not JSON: {error}") from None


def _refuse_constant(name: str) -> object:
    raise DecodeError(f"this is not JSON: {name} is no number")


def arguments(call: object) -> tuple[tuple[object, ...], dict[str, object]]:
    """The arguments of a call that has been read.

    Raises:
        DecodeError: It is not the object of a call.
    """
    match call:
        case {"args": list(args), "kwargs": dict(kwargs)} if all(isinstance(name, str) for name in kwargs):
            return tuple(args), kwargs
    raise DecodeError(f'$: expected a call, an object with "args" and "kwargs", got {shown(call)}')


def culprit(value: object, whose: str = "parameter", path: str = "$") -> str | None:
    """The path of the first part that JSON cannot hold, and why; None if there is none."""
    return _search(value, whose, path, 0)


def _search(value: object, whose: str, path: str, depth: int) -> str | None:
    if depth > _DEEPEST:
        return f"{path[:80]}...: the value contains itself, or is nested too deeply for JSON"
    if isinstance(value, dict):
        return _search_dict(value, whose, path, depth)
    if isinstance(value, list | tuple):
        found = (_search(part, whose, f"{path}[{i}]", depth + 1) for i, part in enumerate(value))
        return next((text for text in found if text), None)
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, int):
        return _why_not_int(value, path)
    if isinstance(value, float):
        finite = value - value == 0.0
        return None if finite else f"{path}: {value!r} cannot be written as JSON"
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return f"{path}: the text has a lone surrogate and cannot be written as UTF-8"
        return None
    mend = f"annotate the {whose}, or convert it" if _can_be_annotated(value) else "convert it"
    return f"{path}: a {type(value).__name__} cannot be written as JSON: {mend}"


def _search_dict(value: dict[object, object], whose: str, path: str, depth: int) -> str | None:
    for key, part in value.items():
        if not isinstance(key, str | int | float | None):
            return f"{path}: a key of type {type(key).__name__} cannot be written as JSON"
        if text := _search(part, whose, f"{path}.{key}", depth + 1):
            return text
    return None


def _why_not_int(value: int, path: str) -> str | None:
    try:
        int.__repr__(value)
    except ValueError as error:  # So many digits that Python refuses, see sys.set_int_max_str_digits.
        return f"{path}: the number cannot be written as JSON: {error}"
    return None


def _can_be_annotated(value: object) -> bool:
    """Whether an annotation would say how the value is written."""
    from datetime import date, time, timedelta
    from decimal import Decimal
    from enum import Enum
    from pathlib import PurePath
    from uuid import UUID

    known = (date, time, timedelta, Decimal, Enum, PurePath, UUID, bytes, bytearray, set, frozenset)
    marks = ("__dataclass_fields__", "__pydantic_validator__", "__struct_fields__")
    return isinstance(value, known) or any(hasattr(type(value), mark) for mark in marks)


def shown(value: object) -> str:
    """What a value that is not what was expected is, for a message."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case str():
            return f"the text {value!r}" if len(value) <= 40 else f"a text of {len(value)} characters"
        case int():
            return f"the number {value}" if abs(value) < 10**40 else "a huge number"
        case float():
            return f"the number {value}"
        case list() | tuple():
            return f"an array of {len(value)}"
        case dict():
            return "an object"
    return f"a {type(value).__name__}"


# ---- the others -----------------------------------------------------------------------------------------


def resolve(said: object) -> tuple[str, Callable[[Any], bytes], Callable[[bytes], Any], str]:
    """What a codec other than JSON is made of: its content type, its two functions, and what it takes.

    Raises:
        InvalidError: There is no such codec, or what it needs is not installed.
        TypeError: It is neither a name nor a codec.
    """
    if said == "msgpack":
        pack, unpack = _msgpack()
        return MSGPACK, _writing("msgpack", pack), _reading("msgpack", unpack), "bytes"
    if said == "pickle":
        import pickle

        return PICKLE, _writing("pickle", pickle.dumps), _reading("pickle", pickle.loads), "objects"
    if isinstance(said, str):
        raise InvalidError(f'codec is {said!r}; it must be "json", "msgpack", "pickle" or a forebay.Codec')
    if isinstance(said, type) or not isinstance(said, Codec):
        name = said.__name__ if isinstance(said, type) else f"a {type(said).__name__}"
        text = f"codec is {name}; give a name, or an object with content_type, encode and decode"
        raise TypeError(text)
    content_type = _checked_type(said.content_type)
    return content_type, _writing(content_type, said.encode), _reading(content_type, said.decode), "json"


def _checked_type(content_type: object) -> str:
    ours = ("application/json", "application/octet-stream", "text/plain", "application/vnd.forebay")
    if not isinstance(content_type, str) or "/" not in content_type or ";forebay" in content_type:
        raise InvalidError(
            f'the content_type of a codec is {content_type!r}; it must be as "application/cbor"'
        )
    if content_type.startswith(ours):
        raise InvalidError(f"the content_type of a codec is {content_type!r}, which others write too")
    return content_type


def _writing(name: str, encode: Callable[[Any], Any]) -> Callable[[Any], bytes]:
    """A codec's way to write, with errors of ours."""

    def write(value: Any) -> bytes:
        try:
            data = encode(value)
        except EncodeError:
            raise
        except Exception as error:
            raise EncodeError(f"$: {name} cannot write the value: {type(error).__name__}: {error}") from error
        if not isinstance(data, bytes):
            raise EncodeError(f"$: {name} made a {type(data).__name__} of the value, not bytes")
        return data

    return write


def _reading(name: str, decode: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """A codec's way to read, with errors of ours."""

    def read(data: bytes) -> Any:
        try:
            return decode(data)
        except DecodeError:
            raise
        except Exception as error:
            raise DecodeError(f"this is not {name}: {type(error).__name__}: {error}") from error

    return read


_NOT, _MAYBE, _BE = range(3)
"""How much it matters that bytes can be read: as in `python/src/codec.rs`."""


def read(content_type: str, data: bytes, must: int) -> tuple[bool, object]:
    """What bytes are that neither their reader nor its dispatcher has said a codec for, if that can be told.

    Raises:
        DecodeError: It can, but not here; or it cannot, and it must.
    """
    if content_type == MSGPACK:
        try:
            _, unpack = _msgpack()
        except InvalidError as error:
            if must == _NOT:
                return False, None
            raise DecodeError(str(error)) from None
        return True, _reading("msgpack", unpack)(data)
    if must == _NOT:
        return False, None
    if content_type == PICKLE:
        raise DecodeError(
            'it is a pickle, which is read only by who says codec="pickle": to read one runs its code'
        )
    if must == _BE:
        raise DecodeError(f"it is {content_type!r}, for which neither handler nor dispatcher has a codec")
    return False, None


def _msgpack() -> tuple[Callable[[Any], bytes], Callable[[bytes], Any]]:
    """The functions of whichever library is installed; both write the same.

    Raises:
        InvalidError: None is.
    """
    try:
        import msgpack  # type: ignore[import-untyped]
    except ModuleNotFoundError:
        return _msgspec()

    def pack(value: Any) -> bytes:
        # It writes more than it reads back, such as a tuple as a key.
        if text := _why_not_msgpack(value):
            raise EncodeError(text)
        return msgpack.packb(value, use_bin_type=True)  # type: ignore[no-any-return]

    def unpack(data: bytes) -> Any:
        return msgpack.unpackb(data, raw=False, strict_map_key=False, ext_hook=_refuse_extension)

    return pack, unpack


def _msgspec() -> tuple[Callable[[Any], bytes], Callable[[bytes], Any]]:
    try:
        import msgspec.msgpack
    except ModuleNotFoundError:
        text = 'codec="msgpack" needs a library: pip install msgpack, or msgspec'
        raise InvalidError(text) from None

    def pack(value: Any) -> bytes:
        # It writes more than it reads back, such as a set or a datetime.
        if text := _why_not_msgpack(value):
            raise EncodeError(text)
        try:
            return msgspec.msgpack.encode(value)
        except Exception as error:
            raise EncodeError(f"$: the value cannot be written as msgpack: {error}") from None

    decoder = msgspec.msgpack.Decoder(ext_hook=lambda code, _: _refuse_extension(code))
    return pack, decoder.decode


def _refuse_extension(code: int, _data: bytes = b"") -> object:
    raise DecodeError(f"this is msgpack with an extension, number {code}, which nobody here knows")


def _why_not_msgpack(value: object, path: str = "$", depth: int = 0) -> str | None:
    """The path of the first part that msgpack cannot hold, and why; None if there is none."""
    if depth > _DEEPEST:
        return f"{path[:80]}...: the value contains itself, or is nested too deeply for msgpack"
    match value:
        case None | bool() | float() | bytes():
            return None
        case int():
            small = -(2**63) <= value < 2**64
            return None if small else f"{path}: a number of more than 64 bits cannot be written as msgpack"
        case str():
            found = _search(value, "", path, depth)
            return found
        case list() | tuple():
            parts = ((f"{path}[{i}]", part) for i, part in enumerate(value))
        case dict():
            for key in value:
                if not isinstance(key, str | int | float | bytes | None):
                    return f"{path}: a key of type {type(key).__name__} cannot be written as msgpack"
            parts = ((f"{path}.{key}", part) for key, part in value.items())
        case _:
            mend = "annotate the parameter, or convert it" if _can_be_annotated(value) else "convert it"
            return f"{path}: a {type(value).__name__} cannot be written as msgpack: {mend}"
    return next((text for where, part in parts if (text := _why_not_msgpack(part, where, depth + 1))), None)
