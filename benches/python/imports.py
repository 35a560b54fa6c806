"""What an import costs: time and memory beyond the bare interpreter, each in a process of its own."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

MODULES = {
    "import-forebay": "forebay",
    "import-executor": "concurrent.futures",
    "import-asyncio": "asyncio",
    "import-huey": "huey",
}
"""The modules that are compared, by the name of the contender."""

_LOOK = """
import json, sys, time
def peak():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
bare = peak()
start = time.perf_counter()
import {0}
took = time.perf_counter() - start
print(json.dumps([1e3 * took, (peak() - bare) / 1e3, len(sys.modules)]))
"""


def imports(name: str, jobs: int) -> dict[str, float]:
    """The medians of eleven processes, after one that warms the files up."""
    module = MODULES[name]
    words = [sys.executable, "-c", _LOOK.format(module)]
    runs = []
    for _ in range(12):
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if f"No module named '{module}'" in done.stderr:
            raise ModuleNotFoundError(module)
        done.check_returncode()
        runs.append(json.loads(done.stdout))
    took, memory, modules = (statistics.median(column) for column in zip(*runs[1:], strict=True))
    return {"ms": took, "MB": memory, "modules": modules}
