"""The machine that measures."""

from __future__ import annotations

import os
import platform
import subprocess
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
    return f"The machine: {text}, {versions}. Durability of every row: **memory**."


def _value(file: str, name: str, separator: str) -> str:
    lines = (line.split(separator, 1) for line in Path(file).read_text().splitlines() if separator in line)
    return next((value.strip() for key, value in lines if key.strip() == name), "?")
