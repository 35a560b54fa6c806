"""Runs the programs of a page of the documentation, in order, as its reader would.

    python pages.py docs/python/quickstart.md

What stands in a block is what happens, in the present folder:

* `python`: it runs, and sees what the blocks before it have defined.
* `python title="app.py"`, or any other language with a title: it becomes a file. One called `test_*.py` is
  then run by pytest.
* `sh`: a shell runs it.
* `text`, right after a block that runs: exactly what that one has printed.

Any other block is an error: nothing on such a page goes unchecked.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_BLOCK = re.compile(
    r"^(?P<in>[ ]*)```(?P<head>[^\n]*)\n(?P<body>.*?)^(?P=in)```[ ]*$", re.DOTALL | re.MULTILINE
)
_HEAD = re.compile(r'(?P<language>\w+)(?:\s+title="(?P<title>[\w./-]+)")?$')


@dataclass(frozen=True)
class Block:
    """One block of a page."""

    language: str
    title: str | None
    body: str
    line: int
    follows: bool
    """Whether nothing but space is between it and the block before."""


def blocks(text: str) -> Iterator[Block]:
    """The blocks of a page."""
    end = 0
    for found in _BLOCK.finditer(text):
        line = text.count("\n", 0, found.start()) + 2
        head = _HEAD.match(found["head"].strip())
        if head is None:
            raise SystemExit(f"line {line - 1}: a block must say what it is, not {found['head']!r}")
        body = re.sub(f"^{found['in']}", "", found["body"], flags=re.MULTILINE)
        follows = not text[end : found.start()].strip()
        yield Block(head["language"], head["title"], body, line, follows)
        end = found.end()


class Reader:
    """Somebody who tries everything on the page."""

    def __init__(self, page: Path) -> None:
        self._page = page
        self._names: dict[str, Any] = {"__name__": "__main__"}
        self._printed: str | None = None

    def try_all(self) -> int:
        """Runs every block; how many there were. The first that is not as the page says ends the program."""
        found = list(blocks(self._page.read_text()))
        for block in found:
            self._try(block)
        return len(found)

    def _try(self, block: Block) -> None:
        if block.title is not None:
            self._printed = self._file(block.title, block.body)
        elif block.language == "python":
            self._printed = self._python(block)
        elif block.language == "sh":
            self._printed = self._command(["bash", "-euo", "pipefail", "-c", block.body])
        elif block.language == "text" and block.follows and self._printed is not None:
            self._check(block, self._printed)
            self._printed = None
        else:
            raise SystemExit(f"{self._page.name}:{block.line}: nothing runs this {block.language} block")

    def _check(self, block: Block, printed: str) -> None:
        if printed.rstrip("\n") != block.body.rstrip("\n"):
            raise SystemExit(
                f"{self._page.name}:{block.line}: it printed\n{printed}and the page says\n{block.body}"
            )

    def _python(self, block: Block) -> str:
        # Padded, so that a traceback has the lines of the page.
        code = compile("\n" * (block.line - 1) + block.body, str(self._page), "exec", dont_inherit=True)
        with redirect_stdout(io.StringIO()) as printed:
            exec(code, self._names)
        return printed.getvalue()

    def _file(self, title: str, body: str) -> str | None:
        path = Path(title)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(body)
        if path.name.startswith("test_"):
            self._command(
                [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", title]
            )
        return None

    def _command(self, command: list[str]) -> str:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            raise SystemExit(
                f"{self._page.name}: {command[-1]}\nended with {done.returncode}:\n{done.stdout}{done.stderr}"
            )
        return done.stdout


def main() -> None:
    """Runs the page that the command line names."""
    sys.path.insert(0, "")
    if not Reader(Path(sys.argv[1])).try_all():
        raise SystemExit("the page has no block")


if __name__ == "__main__":
    main()
