"""The demo's verdict, and the demo itself on a handful of files."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import demo
import pytest
from killed import draw
from stage import Verdict, digest


@pytest.fixture
def files(tmp_path: Path) -> Path:
    root = tmp_path / "files"
    root.mkdir()
    for number in range(40):
        (root / f"f{number:02}.py").write_text(f"print({number})\n" * (number + 1))
    return root


def verdict(root: Path, received: dict[str, str]) -> Verdict:
    report = root.parent / "report.json"
    files = {path: {"sha256": sha256} for path, sha256 in received.items()}
    report.write_text(json.dumps({"files": files, "counts": {}}))
    return Verdict.of(root, sorted(path.name for path in root.iterdir()), report)


def test_what_the_receiver_has_is_the_verdict(files: Path) -> None:
    sent = {path.name: digest(path) for path in files.iterdir()}
    assert verdict(files, sent).sound
    assert str(verdict(files, sent)) == "delivered 40 of 40, lost 0, corrupted 0"


def test_a_missing_a_changed_and_an_unasked_file_are_told_apart(files: Path) -> None:
    sent = {path.name: digest(path) for path in files.iterdir()}
    missing = verdict(files, {path: sha256 for path, sha256 in sent.items() if path != "f07.py"})
    assert str(missing) == "delivered 39 of 40, lost 1, corrupted 0"
    changed = verdict(files, sent | {"f07.py": "00"})
    assert str(changed) == "delivered 40 of 40, lost 0, corrupted 1"
    unasked = verdict(files, sent | {"g.py": "00"})
    assert not any(told.sound for told in (missing, changed, unasked))


@pytest.mark.parametrize("files", [1000, 13, 1])
def test_every_kill_leaves_something_to_do(files: int) -> None:
    for seed in range(100):
        moods, left = random.Random(seed), files
        for kills_left in range(12, 0, -1):
            left -= draw(moods, kills_left, left, filling=False).deliveries
            assert left > 0
        # Where all is delivered it has not heard of that: it is killed before it ends by itself.
        assert draw(moods, 1, 0, filling=False).deliveries == 0
        assert draw(moods, 12, files, filling=True).deliveries == 0


def run(root: Path, *arguments: str) -> str:
    command = [sys.executable, demo.__file__, "--root", str(root), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_deploy_in_the_middle_loses_nothing(files: Path) -> None:
    assert run(files).startswith("delivered 40 of 40, lost 0, corrupted 0\n")


def test_kills_at_random_moments_lose_nothing(files: Path) -> None:
    told = run(files, "--durable", "--kills", "5").splitlines()
    assert told[0] == "killed 5 times"
    assert told[1].startswith("delivered 40 of 40, lost 0, corrupted 0, ")
    assert told[1].endswith(" duplicates")
