"""Finds the dispatcher that a command line names: `module`, `module:name.of.part`, `module:make()`."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from pathlib import Path
from types import ModuleType, TracebackType

from forebay._forebay import Handler
from forebay.dispatcher import Dispatcher


class NoTarget(Exception):
    """There is no such dispatcher; the text says what to do about it."""


class BrokenTarget(Exception):
    """The module, or the function in it, raised an exception, which is the cause of this one."""


def find(target: str) -> Dispatcher:
    """The dispatcher, with handlers.

    Raises:
        NoTarget: There is none of that name.
        BrokenTarget: The program raised an error while it was looked for.
    """
    module_name, _, path = target.partition(":")
    module = _imported(module_name)
    found = _part(module, path) if path else _only(module)
    if not isinstance(found, Dispatcher):
        raise NoTarget(_no_dispatcher(target, found))
    if found.stopping:
        raise NoTarget(f"{target} has been stopped already; it must be left open for the worker")
    if not found.handlers():
        raise NoTarget(
            f"{target} has no handlers, so nothing would ever run; import the modules that register them"
            f" in {module_name}"
        )
    return found


def trace_of(broken: BrokenTarget) -> tuple[type[BaseException], BaseException, TracebackType | None]:
    """The error of the program as its author knows it: without the frames that imported it."""
    error = broken.__cause__
    assert error is not None, "a BrokenTarget is raised from something"
    trace = error.__traceback__
    while trace is not None and _is_machinery(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    # A module that cannot be compiled has no frame of its own.
    return type(error), error, trace


def _is_machinery(file: str) -> bool:
    return file == __file__ or file.startswith("<frozen importlib") or file == importlib.__file__


def _imported(name: str) -> ModuleType:
    """The module, looked for in the present folder first, as `python -m` does."""
    if not name:
        raise NoTarget("no module is named; write module:name, as in forebay worker app:d")
    if name.endswith(".py") or os.sep in name:
        dotted = name.removesuffix(".py").strip(f".{os.sep}").replace(os.sep, ".")
        raise NoTarget(f"{name!r} is a file; name the module instead: {dotted}")
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name == missing or name.startswith(f"{missing}."):
            raise NoTarget(_no_module(missing, here)) from None
        raise BrokenTarget from error
    except Exception as error:
        raise BrokenTarget from error


def _no_module(name: str, here: str) -> str:
    files = (path.name.removesuffix(".py") for path in Path(here).iterdir() if not path.name.startswith("."))
    near = difflib.get_close_matches(name, [file for file in files if file.isidentifier()], n=1)
    mend = f"did you mean {near[0]}?" if near else "change to its folder, or install it"
    return f"there is no module {name!r}, neither in {here} nor among what is installed; {mend}"


def _part(module: ModuleType, path: str) -> object:
    """What the path names: parts with dots, called if that ends in `()`."""
    names, called, rest = path.partition("()")
    if rest or not names:
        raise NoTarget(f"{path!r} is no name; write module:name, or module:make() for what a call returns")
    found: object = module
    for name in names.split("."):
        try:
            found = getattr(found, name)
        except AttributeError as error:
            # Looking for it may run the program, as a property or a module with __getattr__ does.
            if error.obj is not found or error.name != name:
                raise BrokenTarget from error
            raise NoTarget(_no_part(module, found, name)) from None
    if not called:
        return found
    if not callable(found):
        raise NoTarget(f"{names} is a {type(found).__name__} and cannot be called; leave the () away")
    try:
        return found()
    except Exception as error:
        raise BrokenTarget from error


def _no_part(module: ModuleType, found: object, name: str) -> str:
    where = module.__name__ if found is module else f"the {type(found).__name__} before it"
    near = difflib.get_close_matches(name, dir(found), n=1)
    mend = f"did you mean {near[0]}?" if near else _there_are(module)
    return f"{where} has no {name!r}; {mend}"


def _only(module: ModuleType) -> Dispatcher:
    """The only dispatcher of a module."""
    different = {id(part): part for part in vars(module).values() if isinstance(part, Dispatcher)}
    if len(different) != 1:
        many = f"has {len(different)} dispatchers, so say which" if different else "has no dispatcher"
        raise NoTarget(f"{module.__name__} {many}; {_there_are(module)}")
    return next(iter(different.values()))


def _there_are(module: ModuleType) -> str:
    names = [name for name, part in vars(module).items() if isinstance(part, Dispatcher)]
    if names:
        return "its dispatchers are " + ", ".join(f"{module.__name__}:{name}" for name in names)
    return f"name what makes one, as in {module.__name__}:make(), or assign one to a name there"


def _no_dispatcher(target: str, found: object) -> str:
    text = f"{target} is a {type(found).__name__} and no Dispatcher"
    if callable(found) and not isinstance(found, Handler) and not target.endswith("()"):
        return f"{text}; if a call of it returns one, write {target}()"
    return f"{text}; {target.partition(':')[0]} must have one under that name"
