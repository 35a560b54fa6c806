"""What the tests of the examples share: how Python is run, and how those in other languages are built.

They are built against an installation as `make install` makes it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WARN = ["-pedantic", "-Wall", "-Wextra", "-Werror", "-pthread"]
LANGUAGES = {
    ".c": ["CC", "cc", "-std=c11", "-D_POSIX_C_SOURCE=200809L", *WARN],
    ".cpp": ["CXX", "c++", "-std=c++17", *WARN, "-Wshadow", "-Wconversion"],
}
LIMIT = 60


@pytest.fixture(scope="session")
def run_python() -> Callable[..., str]:
    """Runs Python in a folder, which must end well; what it prints."""

    def run(folder: Path, env: dict[str, str], *words: str) -> str:
        done = subprocess.run(
            [sys.executable, *words],
            cwd=folder,
            env=env,
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="session")
def worker() -> Callable[[Path, str], AbstractContextManager[subprocess.Popen[str]]]:
    """Starts a worker on a file: one that is ready, and is told to stop in the end unless it was killed."""

    @contextmanager
    def worker(program: Path, url: str) -> Iterator[subprocess.Popen[str]]:
        with subprocess.Popen([program, url], stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
                yield process
                process.terminate()
                assert process.wait(LIMIT) in (0, -signal.SIGKILL)
            finally:
                process.kill()

    return worker


@pytest.fixture(scope="session")
def produce() -> Callable[[Path, str, list[str]], list[str]]:
    """Runs the Python producer of a folder with these lines; the lines that it prints."""

    def produce(folder: Path, url: str, lines: list[str]) -> list[str]:
        command = [sys.executable, str(folder / "producer.py"), url]
        text = "".join(f"{line}\n" for line in lines)
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=LIMIT, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.splitlines()

    return produce


@pytest.fixture(scope="session")
def prefix() -> Path:
    """Where the library is installed."""
    subprocess.run(["make", "-s", "-C", ROOT / "cbind", "stage"], check=True, capture_output=True)
    return ROOT / "build/c/prefix"


@pytest.fixture(scope="session")
def build(prefix: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """Builds a program in C or C++ of one file; where it is."""

    def compiled(source: Path, *flags: str) -> Path:
        variable, usual, *strict = LANGUAGES[source.suffix]
        program = tmp_path_factory.mktemp("bin") / source.stem
        where = os.environ | {"PKG_CONFIG_PATH": str(prefix / "lib/pkgconfig")}
        ask = ["pkg-config", "--cflags", "--libs", "forebay"]
        found = subprocess.run(ask, env=where, check=True, capture_output=True, text=True).stdout.split()
        link = [*found, f"-Wl,-rpath,{prefix / 'lib'}", "-o", str(program)]
        subprocess.run([os.environ.get(variable, usual), *strict, *flags, str(source), *link], check=True)
        return program

    return compiled


@pytest.fixture(scope="session")
def build_go(prefix: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """Builds the Go program of a folder; where it is."""
    go = shutil.which("go")
    assert go, "the Go examples need Go: https://go.dev/dl"

    def build(folder: Path) -> Path:
        program = tmp_path_factory.mktemp("bin") / folder.name
        where = os.environ | {
            "PKG_CONFIG_PATH": str(prefix / "lib/pkgconfig"),
            "CGO_LDFLAGS": f"-Wl,-rpath,{prefix / 'lib'}",
            "GOFLAGS": "-mod=mod -buildvcs=false",
        }
        subprocess.run([go, "vet", "."], cwd=folder, env=where, check=True, timeout=600)
        subprocess.run([go, "build", "-o", program, "."], cwd=folder, env=where, check=True, timeout=600)
        return program

    return build
