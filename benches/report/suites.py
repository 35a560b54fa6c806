"""The suites: what is measured, with which arguments, and by which command a reader measures it again."""

from __future__ import annotations

import statistics
import tempfile
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


def rust(
    name: str, arguments: str, *, program: str = "throughput", features: str = "", quick_jobs: int = 100_000
) -> Suite:
    """Tables of one of the Rust programs."""

    def run(programs: Programs, quick: bool) -> list[Result]:
        smaller = ["--rounds", "1", "--jobs", str(quick_jobs)] if quick else []
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
        "forebay-many": ("Rust closures, pushed 64 at a time", [closures, *shape, "--alone", "forebay-many"]),
        "c-callback-many": ("C callbacks, pushed 64 at a time", [c, "callback-many", str(jobs)]),
        "forebay-pull": (
            "Rust, pushed, claimed and completed 64 at a time",
            [closures, *shape, "--alone", "forebay-pull"],
        ),
        "c-poll": ("C, pushed, polled and finished 64 at a time", [c, "poll", str(jobs)]),
    }
    title = f"{jobs} no-op jobs of 100 bytes, 2 producers, 2 workers"
    return [in_turn(programs, "c", title, rounds, commands)]


POOL = ((1, 4096), (2, 256), (2, 1024), (4, 16384), (256, 1024))
"""How many goroutines, and how much room in their channel: what suits the pool best is among these."""


def go(programs: Programs, quick: bool) -> list[Result]:
    """Jobs in Go, through a pool behind a channel and through Forebay, and the same through Rust, in turn."""
    rounds, jobs = (1, 50_000) if quick else (5, 500_000)
    closures, program = programs.rust("throughput", ""), programs.go()

    def way(name: str, workers: int, capacity: int = 1024) -> list[str | Path]:
        shape = f"-producers 1 -workers {workers} -capacity {capacity} -jobs {jobs}"
        return [program, *shape.split(), name]

    commands: dict[str, tuple[str, list[str | Path]]] = {
        **{
            f"channel:{workers}:{room}": (
                f"channel of {room}, {workers} goroutine{'s' * (workers > 1)}",
                way("channel", workers, room),
            )
            for workers, room in POOL
        },
        "channel-batches": ("channel of batches of 64, 2 goroutines", way("channel-batches", 2)),
        "push": ("Forebay `Push`", way("push", 256)),
        "push-many-64": ("Forebay `PushMany` of 64", way("push-many-64", 256)),
        "push-many-256": ("Forebay `PushMany` of 256", way("push-many-256", 256)),
        "forebay-many": (
            "Forebay in Rust, `push_many` of 64, 2 workers",
            [closures, *f"--producers 1 --workers 2 --jobs {jobs} --alone forebay-many".split()],
        ),
    }
    title = f"{jobs} no-op jobs of 100 bytes, one producer, 2 processors"
    return [in_turn(programs, "go", title, rounds, commands)]


def go_disk(programs: Programs, quick: bool) -> list[Result]:
    """Jobs from Go on the disk: every push is safe when it returns, and every end is written."""
    rounds, scale = (1, 10) if quick else (3, 1)
    ways = {
        "disk": ("Forebay `Push`, 64 goroutines", 64, 20_000),
        "disk-many-1000": ("Forebay `PushMany` of 1000", 1, 100_000),
    }
    samples: dict[str, list[Result]] = {name: [] for name in ways}
    for name in [*ways] * rounds:
        _, producers, jobs = ways[name]
        shape = f"-producers {producers} -workers 256 -jobs {jobs // scale}"
        with tempfile.TemporaryDirectory(dir=programs.root / "build") as folder:
            samples[name] += programs.lines(
                [programs.go(), *shape.split(), "-file", f"{folder}/jobs.db", name]
            )
    rows = [row(name, title, samples[name]) for name, (title, _, _) in ways.items()]
    title = "jobs of 100 bytes pushed at `disk` and run in Go"
    return [{"table": "go-disk", "title": title, "allocator": "glibc", "rounds": rounds, "rows": rows}]


def go_latency(programs: Programs, quick: bool) -> list[Result]:
    """How long after its push a job starts in Go, in turn."""
    rounds, jobs = (1, 500) if quick else (5, 5_000)
    ways = {
        "latency-channel": "channel of 1024, 2 goroutines",
        "latency-push": "Forebay `Push`, 2 at once",
    }
    samples: dict[str, list[Result]] = {name: [] for name in ways}
    for name in [*ways] * rounds:
        samples[name] += programs.lines([programs.go(), "-workers", "2", "-jobs", str(jobs), name])
    rows = [{"name": name, "title": title, "figures": medians(samples[name])} for name, title in ways.items()]
    title = "push to start at 1 000 a second in Go, memory"
    return [{"table": "go-latency", "title": title, "allocator": "glibc", "rounds": rounds, "rows": rows}]


def in_turn(
    programs: Programs, table: str, title: str, rounds: int, commands: dict[str, tuple[str, list[str | Path]]]
) -> Result:
    """The medians of programs that run one after the other, round after round."""
    samples: dict[str, list[Result]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, (_, command) in commands.items():
            samples[name] += programs.lines(command)
    rows = [row(name, title, samples[name]) for name, (title, _) in commands.items()]
    return {"table": table, "title": title, "allocator": "glibc", "rounds": rounds, "rows": rows}


def rivals(programs: Programs, quick: bool) -> list[Result]:
    """Job queues of Rust over SQLite and Forebay, in turn: every job pushed, run, and its end written."""
    rounds, scale = (1, 10) if quick else (3, 1)
    ours = [programs.rust("durable", ""), "--table", "life", "--alone"]
    ways = {
        "64-pushers": "Forebay, `disk`, 64 pushers",
        "many-1000": "Forebay, `disk`, `push_many` of 1000",
        "shared-64-pushers": "Forebay, `?shared=true`, `disk`, 64 pushers",
        "shared-many-1000": "Forebay, `?shared=true`, `disk`, `push_many` of 1000",
    }
    theirs = {
        "headgate": ("headgate", 2_000, "full", "headgate, batches of 500, `synchronous=FULL`"),
        "apalis-full": ("apalis", 20_000, "full", "apalis, batches of 500, set to `synchronous=FULL`"),
        "apalis": ("apalis", 20_000, "off", "apalis as it comes, `synchronous=OFF`: not durable"),
    }
    built = {name: programs.rival(name) for name in ("headgate", "apalis")}
    titles = ways | {name: title for name, (rival, _, _, title) in theirs.items() if built[rival]}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in titles}
    for name in [*titles] * rounds:
        if name in ways:
            found[name] += programs.lines([*ours, name])
        else:
            rival, jobs, mode, _ = theirs[name]
            program = built[rival]
            assert program is not None
            with tempfile.TemporaryDirectory(dir=programs.root / "build") as folder:
                command = [program, str(jobs // scale), f"{folder}/jobs.db", mode]
                found[name] += [figures(sample) for sample in programs.lines(command)]
    columns = ("jobs/s", "CPU µs/job")
    rows = [
        {
            "name": name,
            "title": title,
            "figures": {column: statistics.median(run[column] for run in found[name]) for column in columns},
        }
        for name, title in titles.items()
    ]
    title = "jobs pushed, run by 2 workers, and their ends on the disk"
    return [{"table": "rivals", "title": title, "allocator": "glibc", "rounds": rounds, "rows": rows}]


def row(name: str, title: str, samples: list[Result]) -> Result:
    """The medians of some runs."""
    return {"name": name, "title": title, "figures": medians([figures(sample) for sample in samples])}


def medians(runs: list[dict[str, float]]) -> dict[str, float]:
    """The median of each figure."""
    return {column: statistics.median(run[column] for run in runs) for column in runs[0]}


def figures(sample: Result) -> dict[str, float]:
    """What a run took, per second and per job."""
    return {
        "jobs/s": sample["jobs"] / sample["seconds"],
        "CPU µs/job": 1e6 * sample["cpu"] / sample["jobs"],
    }


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
    rust("policies", "--table policies --rounds 5", program="process"),
    rust("keys", "--table keys --rounds 3", program="process"),
    *(
        rust(f"durable-{name}", f"--table {tables} --rounds {rounds}", program="durable", quick_jobs=jobs)
        for name, tables, rounds, jobs in (
            ("pushes", "one,callers-64,callers-256", 5, 5_000),
            ("life", "life", 3, 5_000),
            ("memory", "at-memory", 5, 100_000),
            ("queue", "long-queue", 3, 10_000),
            ("recovery", "recovery", 3, 100_000),
            ("spill", "spill", 1, 200_000),
            ("idle", "idle-store", 3, 1),
        )
    ),
    Suite("durable-rivals", "make bench ARGS='--only durable-rivals'", rivals),
    Suite("c", "make bench ARGS='--only c'", c_and_rust),
    Suite("go", "make bench ARGS='--only go'", go),
    Suite("go-latency", "make bench ARGS='--only go-latency'", go_latency),
    Suite("go-disk", "make bench ARGS='--only go-disk'", go_disk),
    python("python", "--table python --jobs 100000"),
    python("python-executor", "--table python-executor --jobs 100000"),
    python("python-async", "--table python-async --jobs 200000 --rounds 3"),
    python("python-durable", "--table python-durable --jobs 50000 --rounds 3"),
    python("python-json", "--table python-json --jobs 100000"),
    python("python-latency", "--table python-latency"),
    python("python-memory", "--table python-memory --rounds 3"),
    python("python-backlog", "--table python-backlog --rounds 3"),
    python("python-import", "--table python-import --rounds 1"),
)
