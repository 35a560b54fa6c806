"""What `import forebay` costs a program that only may need it: modules, memory, threads; counted."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

OURS = {
    *("forebay", "forebay._exit", "forebay._forebay", "forebay._wait", "forebay.codec"),
    *("forebay.dispatcher", "forebay.errors"),
}
"""The modules of ours that are there at once; the others come when they are needed."""

STANDARD = {
    *("__future__", "atexit", "collections", "contextlib", "copyreg", "enum", "functools", "itertools"),
    *("keyword", "operator", "re", "reprlib", "signal", "threading", "types", "typing", "warnings"),
    "weakref",
}
"""Those of Python's that it may bring along. `asyncio`, `inspect`, `logging`, `dataclasses` and
`concurrent.futures` each take longer to load than everything here together."""

LOOK = """
import json, sys, threading
before = set(sys.modules)
{}
modules = sorted(set(sys.modules) - before)
# Not `ru_maxrss`, which a process begins with what the one had that started it.
lines = open("/proc/self/status").read().splitlines()
peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
print(json.dumps(dict(modules=modules, peak=peak, threads=threading.active_count())))
"""


def look(statement: str) -> Any:
    words = [sys.executable, "-I", "-c", LOOK.format(statement)]
    return json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


def test_the_import_brings_little_along() -> None:
    found = look("import forebay")
    assert found["threads"] == 1
    ours = {name for name in found["modules"] if name.startswith("forebay")}
    assert ours == OURS
    others = {name.partition(".")[0] for name in found["modules"]} - {"forebay"}
    # What is private there differs from version to version, and is little.
    assert {name for name in others if not name.startswith("_")} <= STANDARD


def test_the_import_takes_less_than_10_mb() -> None:
    bare, full = look("pass")["peak"], look("import forebay")["peak"]
    assert 0 < full - bare < 10_000, f"{bare} KB without, {full} KB with"
