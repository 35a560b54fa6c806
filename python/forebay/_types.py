"""The types of arguments, for annotations."""

from __future__ import annotations

from datetime import datetime, timedelta
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from uuid import UUID

if TYPE_CHECKING:
    from forebay._forebay import Handle

Delay: TypeAlias = float | timedelta | str
"""A duration: seconds, a timedelta, or a text with its unit, such as "5s"."""
When: TypeAlias = Delay | datetime
"""A duration from now, or an instant with a time zone."""
Durability: TypeAlias = Literal["memory", "os", "disk"]
"""What an accepted job survives: nothing, the end of its process (kill -9 too), or even a power cut."""
Url: TypeAlias = str | PathLike[str]
"""What a dispatcher is opened on: a URL, or the path of a file, which is a `sqlite:` one."""
Id: TypeAlias = "UUID | str | Handle[Any]"
"""What names a job."""
OptionValue: TypeAlias = float | str | bool | timedelta | PathLike[str] | None
"""The value of an option of a dispatcher."""
