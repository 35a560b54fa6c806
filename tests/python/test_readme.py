"""The programs in the README and in docs/bindings.md do what the pages say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(program: str, folder: Path) -> tuple[int, str, str]:
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, timeout=280, check=False
    )
    return run.returncode, run.stdout, run.stderr


def test_the_python_example_runs(tmp_path: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert run(program, tmp_path) == (0, "good day, world\n", "")
    assert (tmp_path / "jobs.db").exists()


def test_the_example_of_load_shedding_runs(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "bindings.md").read_text()
    program, printed = re.findall(r"```python\n(.*?)```.*?```text\n(.*?)```", page, re.DOTALL)[0]
    assert run(program, tmp_path) == (0, printed, "")
