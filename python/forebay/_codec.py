"""Values as JSON, for when they must leave the process."""

from __future__ import annotations

import json

from forebay.errors import EncodeError

_DEEPEST = 200
"""Deeper values, which may contain themselves, are not searched."""


def encode(value: object) -> bytes:
    """The value as JSON: exact for every int, without NaN, without escapes that UTF-8 does not need.

    Raises:
        EncodeError: It names the part of the value that JSON cannot hold.
    """
    try:
        return json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
    except Exception as error:
        where = _culprit(value, "$", 0) or f"$: the value cannot be written as JSON: {error}"
        raise EncodeError(where) from None


def _culprit(value: object, path: str, depth: int) -> str | None:
    """The path of the first part that JSON cannot hold, and why; None if there is none."""
    if depth > _DEEPEST:
        return f"{path[:80]}...: the value contains itself, or is nested too deeply for JSON"
    if isinstance(value, dict):
        return _culprit_in_dict(value, path, depth)
    if isinstance(value, list | tuple):
        found = (_culprit(part, f"{path}[{i}]", depth + 1) for i, part in enumerate(value))
        return next((text for text in found if text), None)
    if value is None or isinstance(value, bool | int):
        return None
    if isinstance(value, float):
        finite = value - value == 0.0
        return None if finite else f"{path}: {value!r} cannot be written as JSON"
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return f"{path}: the text has a lone surrogate and cannot be written as UTF-8"
        return None
    return f"{path}: a {type(value).__name__} cannot be written as JSON"


def _culprit_in_dict(value: dict[object, object], path: str, depth: int) -> str | None:
    for key, part in value.items():
        if not isinstance(key, str | int | float | None):
            return f"{path}: a key of type {type(key).__name__} cannot be written as JSON"
        if text := _culprit(part, f"{path}.{key}", depth + 1):
            return text
    return None
