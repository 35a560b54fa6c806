"""Starting again when the program changes: which files it is made of, and whether they are what they were."""

from __future__ import annotations

import os
import sys
import sysconfig
import traceback
from collections.abc import Iterable
from types import ModuleType

PERIOD = 1.0
"""How often files are looked at, in seconds."""

_HERE = os.path.dirname(os.path.abspath(__file__))
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


def files(error: BaseException | None = None) -> list[str]:
    """The files of the program that is loaded in this process, or that led to this error.

    Without those of Python and of installed packages, which nobody changes in passing.
    """
    found = {getattr(module, "__file__", None) for module in list(sys.modules.values()) if _is_plain(module)}
    if error is not None:
        found.update(frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__))
    if isinstance(error, SyntaxError):
        found.add(error.filename)
    sources = {os.path.abspath(file) for file in found if isinstance(file, str) and file.endswith(".py")}
    return sorted(filter(_is_of_the_program, sources))


def _is_plain(module: object) -> bool:
    """Whether looking at its attributes does nothing else: some modules are made to import at that."""
    return type(module) is ModuleType


def _is_of_the_program(file: str) -> bool:
    roots = {_HERE, *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib"))}
    if any(file.startswith(root + os.sep) for root in roots) or any(part in file for part in _INSTALLED):
        return False
    return os.path.exists(file)


class Watch:
    """Files, and what they were when somebody looked last."""

    def __init__(self) -> None:
        """None yet."""
        self._known: dict[str, int] = {}
        # Files beside those, while the program cannot be loaded: the one that it lacks may come to be there.
        self._beside: dict[str, int] | None = None

    def add(self, files: Iterable[str], loaded_ns: int) -> None:
        """Looks at these as well, which a process has loaded that was started at this time.

        One that was changed since is not what was loaded, whatever is known of it now.
        """
        for file in files:
            if file not in self._known:
                changed = _changed(file)
                self._known[file] = changed if changed < loaded_ns else -1

    def widen(self) -> None:
        """Looks at everything in their folders as well, until the next `renew`."""
        self._beside = self._siblings()

    def renew(self) -> None:
        """All files are about to be loaded as they are now."""
        self._beside = None
        self._known = {file: _changed(file) for file in self._known}

    def changed(self) -> str | None:
        """A file that has changed since the last look, come or gone."""
        for file, before in self._known.items():
            if before != _changed(file):
                self.renew()
                return file
        if self._beside is not None:
            former, self._beside = self._beside, self._siblings()
            differ = former.items() ^ self._beside.items()
            return min((file for file, _ in differ), default=None)
        return None

    def _siblings(self) -> dict[str, int]:
        folders = {os.getcwd(), *map(os.path.dirname, self._known)}
        return {path: _changed(path) for folder in folders for path in _sources(folder)}


def _sources(folder: str) -> list[str]:
    try:
        return [os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(".py")]
    except OSError:
        return []


def _changed(file: str) -> int:
    """When it was changed, in nanoseconds; 0 if it is not there."""
    try:
        return os.stat(file).st_mtime_ns
    except OSError:
        return 0
