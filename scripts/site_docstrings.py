"""For the reference of the site: the types of the native module are in a stub, its docstrings in itself."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import griffe

NATIVE = "forebay._forebay"


class NativeDocstrings(griffe.Extension):
    """Gives what the stub declares the docstrings of the module itself."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """The package was read."""
        stub = pkg.modules.get("_forebay")
        if stub is not None:
            _describe(stub, importlib.import_module(NATIVE))


def _describe(declared: griffe.Object, real: object) -> None:
    for name, member in declared.members.items():
        found = inspect.getattr_static(real, name, None)
        if isinstance(member, griffe.Alias) or found is None:
            continue
        text = inspect.getdoc(found)
        if member.docstring is None and text:
            member.docstring = griffe.Docstring(text, parent=member)
        if isinstance(member, griffe.Class):
            _describe(member, found)
