"""The types of the surface, as mypy sees them: `typed.py` says what they must be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_types(tmp_path: Path) -> None:
    here = Path(__file__).parent
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--cache-dir",
        str(tmp_path),
        "--config-file",
        "",
        "typed.py",
    ]
    checked = subprocess.run(command, cwd=here, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout) == (0, "Success: no issues found in 1 source file\n")
