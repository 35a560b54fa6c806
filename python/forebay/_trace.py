"""Exceptions as text, for the history of a job."""

from __future__ import annotations

import traceback

_FRAMES = 20
"""The most frames of one traceback: the last ones, nearest to the error."""
_HEAD = 2_000
"""The longest text of an exception itself."""
_LONGEST = 12_000
"""The longest text in all: the core keeps 16 KiB."""


def describe(error: BaseException) -> str:
    """The exception in its first line, then the traceback, of bounded length."""
    head = _headline(error)
    try:
        frames = _frames(error)
    except Exception as broken:
        frames = f"(its traceback cannot be shown: {type(broken).__name__})\n"
    text = f"{head}\n{frames}"[:_LONGEST].rstrip()
    # The core keeps UTF-8, which has no lone surrogates.
    return text.encode(errors="backslashreplace").decode()


def _headline(error: BaseException) -> str:
    name = type(error).__qualname__
    try:
        text = str(error)
    except BaseException as broken:
        return f"{name} (its text cannot be had: __str__ raised {type(broken).__name__})"
    if len(text) > _HEAD:
        text = f"{text[:_HEAD]}... ({len(text)} characters)"
    return f"{name}: {text}" if text else name


def _frames(error: BaseException) -> str:
    """The traceback, innermost cause first, as Python prints it, without what the headline says."""
    parts = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen and len(seen) < 5:
        seen.add(id(current))
        frames = "".join(traceback.format_tb(current.__traceback__, limit=-_FRAMES))
        title = (
            "Traceback (most recent call last):\n"
            if current is error
            else f"Caused by {_headline(current)}\n"
        )
        if frames or current is not error:
            parts.append(title + frames)
        hidden = current.__suppress_context__
        current = current.__cause__ or (None if hidden else current.__context__)
    return "".join(parts)
