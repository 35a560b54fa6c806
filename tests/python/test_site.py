"""The documentation: every block of the Python pages is run, and the site builds without a warning."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pages import blocks

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    page
    for folder in ("python", "migration")
    for page in (ROOT / "docs" / folder).glob("*.md")
    if page.name != "reference.md"
)


def run(command: list[str], folder: Path) -> tuple[int, str]:
    # The command of the package, as a reader would have it.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path, "NO_MKDOCS_2_WARNING": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=280,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}/{page.stem}")
def test_a_page_does_what_it_says(page: Path, tmp_path: Path) -> None:
    pages = Path(__file__).with_name("pages.py")
    assert run([sys.executable, "-W", "error", str(pages), str(page)], tmp_path) == (0, "")


def test_the_runner_notices(tmp_path: Path) -> None:
    pages = Path(__file__).with_name("pages.py")
    bad = {
        "```python\nprint(1)\n```\n\n```text\n2\n```\n": "it printed",
        "```python\n1 / 0\n```\n": "ZeroDivisionError",
        "```sh\nexit 3\n```\n": "ended with 3",
        "```\nwhat\n```\n": "must say what it is",
        "```go\npackage main\n```\n": "nothing runs this go block",
        "```python\nprint(1)\n```\nso\n```text\n1\n```\n": "nothing runs this text block",
        '```python title="test_it.py"\ndef test_it(): assert False\n```\n': "1 failed",
        "no block": "has no block",
    }
    for text, told in bad.items():
        page = tmp_path / "page.md"
        page.write_text(text)
        code, out = run([sys.executable, str(pages), str(page)], tmp_path)
        assert code != 0, text
        assert told in out, text


def test_blocks_are_found() -> None:
    text = 'a\n\n```python title="x.py"\nx = 1\n```\n\n- b\n\n    ```sh\n    ls\n    ```\n'
    found = [(block.language, block.title, block.body, block.line) for block in blocks(text)]
    assert found == [("python", "x.py", "x = 1\n", 4), ("sh", None, "ls\n", 10)]


def test_the_site_builds(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    assert run(command, ROOT) == (0, "")
    assert (tmp_path / "python" / "quickstart" / "index.html").exists()
