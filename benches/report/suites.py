"""The suites: what is measured, with which arguments, and by which command a reader measures it again."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from programs import Programs

Result = dict[str, Any]
"""A table as its program printed it: a head and rows of named figures."""


@dataclass(frozen=True)
class Suite:
    """Some tables that are measured together."""

    name: str
    command: str
    run: Callable[[Programs, bool], list[Result]]


def rust(name: str, arguments: str, *, program: str = "throughput", features: str = "") -> Suite:
    """Tables of one of the Rust programs."""

    def run(programs: Programs, quick: bool) -> list[Result]:
        smaller = ["--rounds", "1", "--jobs", "100000"] if quick else []
        # The first one of two equal arguments counts.
        command: list[str | Path] = [
            programs.rust(program, features),
            *smaller,
            *arguments.split(),
            "--json",
        ]
        return [with_figures(result) for result in programs.lines(command)]

    with_features = f" --features {features}" if features else ""
    return Suite(name, f"cargo bench -p forebay-benches --bench {program}{with_features} -- {arguments}", run)


def python(name: str, arguments: str) -> Suite:
    """Tables of the Python program."""

    def run(programs: Programs, quick: bool) -> list[Result]:
        smaller = ["--rounds", "1", "--jobs", "20000"] if quick else []
        # The last one of two equal arguments counts.
        return programs.python(*arguments.split(), *smaller, "--json")

    return Suite(name, f"python benches/python {arguments}", run)


def c_and_rust(programs: Programs, quick: bool) -> list[Result]:
    """The C program and the same jobs in Rust, in turn."""
    rounds, jobs = (1, 50_000) if quick else (5, 500_000)
    shape = f"--producers 2 --workers 2 --jobs {jobs}".split()
    closures, c = programs.rust("throughput", ""), programs.c()
    commands: dict[str, tuple[str, list[str | Path]]] = {
        "forebay": ("Rust closures", [closures, *shape, "--alone", "forebay"]),
        "c-callback": ("C callbacks", [c, "callback", str(jobs)]),
        "forebay-pull": (
            "Rust, claimed and completed 64 at a time",
            [closures, *shape, "--alone", "forebay-pull"],
        ),
        "c-poll": ("C, polled and finished 64 at a time", [c, "poll", str(jobs)]),
    }
    samples: dict[str, list[Result]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, (_, command) in commands.items():
            samples[name] += programs.lines(command)
    rows = [row(name, title, samples[name]) for name, (title, _) in commands.items()]
    title = f"{jobs} no-op jobs of 100 bytes, 2 producers, 2 workers"
    return [{"table": "c", "title": title, "allocator": "glibc", "rounds": rounds, "rows": rows}]


def row(name: str, title: str, samples: list[Result]) -> Result:
    """The medians of some runs."""
    figures = {
        "jobs/s": statistics.median(sample["jobs"] / sample["seconds"] for sample in samples),
        "CPU µs/job": statistics.median(1e6 * sample["cpu"] / sample["jobs"] for sample in samples),
    }
    return {"name": name, "title": title, "figures": figures}


def with_figures(result: Result) -> Result:
    """The rows of a throughput table in the form of all others."""
    for found in result["rows"]:
        if "rate" in found:
            low, high = found.pop("range")
            figures = {"jobs/s": found.pop("rate"), "slowest": low, "fastest": high}
            found["figures"] = figures | {"CPU µs/job": found.pop("cpu"), "peak RSS MB": found.pop("peak")}
    if "shape" in result:
        text = "{jobs} no-op jobs of {payload} bytes, {producers} producers, {workers} workers"
        result["title"] = text.format(**result["shape"])
    return result


_FOUR = "--only rayon,crossbeam,forebay,forebay-many"
_SIX = "--only rayon,crossbeam,crossbeam-4096,forebay,forebay-many,forebay-pull"

SUITES = (
    rust("throughput-glibc", "--jobs 500000"),
    rust("apalis", "--only rayon,apalis,forebay --jobs 200000 --rounds 3", features="apalis"),
    rust("throughput-jemalloc", f"--jobs 500000 {_SIX}", features="jemalloc"),
    rust("throughput-mimalloc", f"--jobs 500000 {_SIX}", features="mimalloc"),
    rust("axes", f"--producers 1,2,4,8 --workers 1,2,4 --jobs 300000 --rounds 3 {_FOUR}"),
    rust("payloads", f"--payload 1,10240 --jobs 300000 --rounds 3 {_FOUR}"),
    rust("kept", "--only forebay-unkept,forebay-kept --warm 1000000 --jobs 500000"),
    rust("memory", "--table memory --rounds 3", program="process"),
    rust("latency", "--table latency --rounds 5", program="process"),
    rust("blocked", "--table blocked --rounds 3", program="process"),
    rust("idle", "--table idle --rounds 3", program="process"),
    Suite("c", "make bench ARGS='--only c'", c_and_rust),
    python("python", "--table python --jobs 100000"),
    python("python-json", "--table python-json --jobs 100000"),
    python("python-latency", "--table python-latency"),
    python("python-memory", "--table python-memory --rounds 3"),
    python("python-backlog", "--table python-backlog --rounds 3"),
)
