"""How the examples in other languages are built: against an installation as `make install` makes it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def build_go(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """Builds the Go program of a folder; where it is."""
    subprocess.run(["make", "-s", "-C", ROOT / "cbind", "stage"], check=True, capture_output=True)
    prefix = ROOT / "build/c/prefix"
    go = shutil.which("go")
    assert go, "the Go examples need Go: https://go.dev/dl"

    def build(folder: Path) -> Path:
        program = tmp_path_factory.mktemp("bin") / folder.name
        where = os.environ | {
            "PKG_CONFIG_PATH": str(prefix / "lib/pkgconfig"),
            "CGO_LDFLAGS": f"-Wl,-rpath,{prefix / 'lib'}",
            "GOFLAGS": "-mod=mod",
        }
        subprocess.run([go, "vet", "."], cwd=folder, env=where, check=True, timeout=600)
        subprocess.run([go, "build", "-o", program, "."], cwd=folder, env=where, check=True, timeout=600)
        return program

    return build
