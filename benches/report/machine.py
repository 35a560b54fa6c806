"""The machine that measures, and who else uses it."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import time
from pathlib import Path


def machine(root: Path) -> str:
    """What one has to know of it to compare figures."""
    cpu = _value("/proc/cpuinfo", "model name", ":")
    gigabytes = int(_value("/proc/meminfo", "MemTotal", ":").split()[0]) / 1024**2
    system = _value("/etc/os-release", "PRETTY_NAME", "=").strip('"')
    rustc = subprocess.run(
        ["rustc", "--version"], cwd=root, capture_output=True, text=True, check=True
    ).stdout.split()[1]
    text = f"{os.cpu_count()} cores ({cpu}), {gigabytes:.0f} GiB, {system}, {' '.join(platform.libc_ver())}"
    versions = f"Rust {rustc}, CPython {platform.python_version()}"
    disk = f"files on {file_system(root)}"
    return (
        f"The machine: {text}, {versions}, {disk}. "
        "Durability of a row is **memory** unless the row or its title says otherwise."
    )


def file_system(root: Path) -> str:
    """The kind of file system under the repository, and how it is mounted."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    above = [mount for mount in mounts if root.is_relative_to(mount[1])]
    _, _, kind, options, *_ = max(above, key=lambda mount: len(mount[1]))
    return f"{kind} ({options.split(',')[0]}, Linux {platform.release().split('-')[0]})"


class Neighbours:
    """How many processors everybody else has used since this was made.

    With neighbours the threads of a contender seldom run side by side, so they hardly meet: a contender that
    suffers when they do looks better than it is.
    """

    def __init__(self) -> None:
        """The watch begins."""
        self.start, self.others = time.monotonic(), self._others()

    def cores(self) -> float:
        """Processors in use by others, on average so far."""
        return max(0.0, (self._others() - self.others) / (time.monotonic() - self.start))

    @staticmethod
    def _others() -> float:
        """Seconds that the machine was busy with what neither this process nor its children did."""
        user, nice, system, _, _, irq, softirq, steal = map(
            int, Path("/proc/stat").read_text().split(maxsplit=9)[1:9]
        )
        busy = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
        usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return busy - sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _value(file: str, name: str, separator: str) -> str:
    lines = (line.split(separator, 1) for line in Path(file).read_text().splitlines() if separator in line)
    return next((value.strip() for key, value in lines if key.strip() == name), "?")
