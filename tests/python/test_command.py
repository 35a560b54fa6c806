"""The command that comes with the package."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import forebay
import pytest
from conftest import LIMIT
from forebay import Dispatcher

WAYS = [[sys.executable, "-m", "forebay"], [str(Path(sys.executable).with_name("forebay"))]]


def command(*args: object, way: int = 0) -> subprocess.CompletedProcess[str]:
    words = [*WAYS[way], *map(str, args)]
    return subprocess.run(words, capture_output=True, text=True, timeout=LIMIT, check=False)


def answer(*args: object) -> Any:
    done = command("--json", *args)
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("way", [0, 1], ids=["module", "script"])
def test_it_is_there(way: int) -> None:
    shown = command("--version", way=way)
    assert (shown.returncode, shown.stdout.split()) == (0, ["forebay", forebay.__version__])
    helped = command("--help", way=way)
    assert helped.returncode == 0
    assert "stats" in helped.stdout
    wrong = command("--no-such-thing", way=way)
    assert (wrong.returncode, wrong.stdout) == (2, "")


def test_it_looks_at_a_file_and_takes_care_of_it(tmp_path: Path) -> None:
    file = tmp_path / "jobs.db"
    with Dispatcher(file) as d:
        job = d.push("greet", {"name": "größe"})
        (stats,) = answer(file, "stats")
        assert {queue["name"]: queue["queued"] for queue in stats["queues"]} == {"default": 1}
        assert answer(file, "cancel", job.id)
        assert job.status == "cancelled", "the process that has the file did it"
    (listed,) = answer(file, "list")
    assert (listed["id"], listed["kind"], listed["state"]) == (str(job.id), "greet", "cancelled")
    assert command(file, "show", "01a1fa4b-69e4-7694-a8d8-eb128a7ee381").returncode == 1
    assert command(tmp_path / "none.db", "stats").returncode == 3


def test_it_needs_no_utf8_in_its_arguments(tmp_path: Path) -> None:
    words: list[str | bytes] = [sys.executable, "-m", "forebay", b"\xff.db", "stats"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, timeout=LIMIT, check=False)
    assert done.returncode in (2, 3)
    assert b"Traceback" not in done.stderr
