"""The programs that measure: built when first needed, and called."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

CARGO = os.environ.get("CARGO", "cargo")


class Programs:
    """The measuring programs of one checkout."""

    def __init__(self, root: Path) -> None:
        """Nothing is built yet."""
        self.root = root
        self.rust = cache(self._rust)
        self.c = cache(self._c)
        self.go = cache(self._go)

    def _rust(self, program: str, features: str) -> Path:
        """The Rust program of this name with these features."""
        chosen = ["--features", features] if features else []
        built = self._cargo("bench", "-p", "forebay-benches", "--bench", program, "--no-run", *chosen)
        return next(
            Path(m["executable"]) for m in built if m.get("executable") and m["target"]["name"] == program
        )

    def _c(self) -> Path:
        """The C program, linked with the static library as it was built now."""
        built = self._cargo("build", "--release", "-p", "forebay-cbind")
        files = [name for message in built for name in message.get("filenames", [])]
        library = next(name for name in files if name.endswith("libforebay.a"))
        program = self.root / "build" / "callback"
        program.parent.mkdir(exist_ok=True)
        source, include = self.root / "benches" / "callback.c", self.root / "cbind" / "include"
        compiler = [os.environ.get("CC", "cc"), "-O2", "-Wall", "-Wextra", f"-I{include}"]
        subprocess.run([*compiler, "-o", program, source, library, "-lpthread", "-ldl", "-lm"], check=True)
        return program

    def _go(self) -> Path:
        """The Go program, with the shared library as `make install` installs it."""
        subprocess.run(["make", "-s", "-C", self.root / "cbind", "stage"], check=True, stdout=sys.stderr)
        library, program = self.root / "build" / "c" / "prefix" / "lib", self.root / "build" / "go-benches"
        environment = os.environ | {
            "PKG_CONFIG_PATH": str(library / "pkgconfig"),
            "CGO_LDFLAGS": f"-Wl,-rpath,{library}",
            "GOTOOLCHAIN": "local",
            "GOFLAGS": "-buildvcs=false",
        }
        command = ["go", "build", "-o", program, "."]
        subprocess.run(command, cwd=self.root / "benches" / "go", env=environment, check=True)
        return program

    def rival(self, name: str) -> Path | None:
        """A rival that is a workspace of its own, or None where it cannot be had."""
        folder, target = self.root / "benches" / "rivals" / name, self.root / "build" / "rivals"
        command = [CARGO, "build", "--quiet", "--release", "--locked", "--target-dir", str(target)]
        if subprocess.run(command, cwd=folder, check=False).returncode != 0:
            print(f"{name}: cannot be built, left out", file=sys.stderr)
            return None
        return target / "release" / f"rival-{name}"

    def _cargo(self, *arguments: str) -> list[dict[str, Any]]:
        """What cargo says about what it built."""
        command = [CARGO, *arguments, "--message-format=json-render-diagnostics"]
        done = subprocess.run(command, cwd=self.root, stdout=subprocess.PIPE, text=True, check=True)
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]

    def lines(self, command: Sequence[str | Path]) -> list[dict[str, Any]]:
        """Runs a program and reads the lines of JSON that it prints."""
        done = subprocess.run(command, cwd=self.root, stdout=subprocess.PIPE, text=True, check=True)
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]

    def python(self, *arguments: str) -> list[dict[str, Any]]:
        """Runs the Python measurements with this interpreter."""
        return self.lines([sys.executable, self.root / "benches" / "python", *arguments])
