"""The types of the surface, as mypy and pyright see them: `typed*.py` say what they must be."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import forebay

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def run(*words: str, folder: Path = HERE) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=folder, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_types(tmp_path: Path) -> None:
    """An `ignore` that nothing needs is an error: so the calls that must be refused are refused."""
    files = sorted(path.name for path in HERE.glob("typed*.py"))
    options = ("--strict", "--cache-dir", str(tmp_path), "--config-file", "")
    text = f"Success: no issues found in {len(files)} source file{'s' if len(files) > 1 else ''}\n"
    assert run("mypy", *options, *files) == (0, text)


def test_types_as_pyright_sees_them() -> None:
    """What `[tool.pyright]` includes, in strict mode; an `ignore` that nothing needs is an error here too."""
    code, text = run("pyright", "--pythonpath", sys.executable, "--outputjson", folder=ROOT)
    checked = json.loads(text)
    assert checked["summary"]["filesAnalyzed"] == len(list(HERE.glob("typed*.py")))
    said = [
        f"{found['file']}:{found['range']['start']['line'] + 1}: {found['message']}"
        for found in checked["generalDiagnostics"]
    ]
    assert code == 0, "\n".join(said)
    assert said == []


def test_every_public_symbol_has_its_type() -> None:
    """Of every public module of the package, as a type checker of the user's finds it."""
    words = ("--pythonpath", sys.executable, "--verifytypes", "forebay", "--ignoreexternal", "--outputjson")
    code, text = run("pyright", *words)
    found = json.loads(text)["typeCompleteness"]
    lacking = [
        f"{symbol['name']}: {'; '.join(said['message'] for said in symbol['diagnostics'])}"
        for symbol in found["symbols"]
        if not symbol["isTypeKnown"] or symbol["isTypeAmbiguous"]
    ]
    assert not lacking, "\n".join(lacking)
    assert found["exportedSymbolCounts"]["withKnownType"] > len(forebay.__all__)
    assert (code, found["completenessScore"]) == (0, 1)


def test_the_stubs_are_what_is_there() -> None:
    """Every module, also those that are their own stubs: their annotations hold when they are looked at."""
    code, text = run(
        "mypy.stubtest",
        "forebay",
        "--allowlist",
        "tests/python/stubtest.txt",
        "--mypy-config-file",
        "pyproject.toml",
        folder=ROOT,
    )
    assert (code, text.rpartition("Success: ")[1]) == (0, "Success: "), text


def test_every_public_name_is_documented() -> None:
    bare = [name for name in forebay.__all__ if not documented(getattr(forebay, name))]
    for cls in (part for name in forebay.__all__ if isinstance(part := getattr(forebay, name), type)):
        names = vars(cls).items()
        bare += [f"{cls.__name__}.{name}" for name, part in names if name[0] != "_" and not documented(part)]
    assert not bare, "\n".join(bare)


def documented(part: Any) -> bool:
    """Whether somebody wrote a text for it; that of an error code stands beside it, for all classes alike."""
    return isinstance(part, str | int | dict) or bool(inspect.getdoc(part))
