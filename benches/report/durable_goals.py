"""The goals of what keeps jobs in a file."""

from __future__ import annotations

from collections.abc import Callable

from goal import Goal, Results, plain, rate, ratio


def grouped(callers: int) -> Callable[[Results], float]:
    """Forebay against the better of the two bare logs that grow and group their callers."""
    table = f"callers-{callers}"

    def value(results: Results) -> float:
        peers = (rate(results, "durable-pushes", f"{who}-append", table=table) for who in ("group", "follow"))
        return rate(results, "durable-pushes", "forebay", table=table) / max(peers)

    return value


def os_to_disk(results: Results) -> float:
    """What 64 callers gain by the level `os`."""
    os, disk = (rate(results, "durable-pushes", who, table="callers-64") for who in ("forebay-os", "forebay"))
    return os / disk


def batches(results: Results) -> float:
    """The better of the two ways to push in batches."""
    return max(rate(results, "durable-life", name) for name in ("4-many-64", "many-1000"))


def python_batches(results: Results) -> float:
    """The better of the two sizes of batches."""
    return max(rate(results, "python-durable", f"sqlite-{name}:1") for name in ("many", "many-1000"))


def python_rivals(results: Results) -> float:
    """The best of Forebay against the best of the others, all durable."""
    rows = results["python-durable"][0]["rows"]
    ours = [row for row in rows if row["name"].startswith("sqlite") and row["name"] != "sqlite-os:1"]
    theirs = [row for row in rows if not row["name"].startswith("sqlite")]
    best = [max(row["figures"]["jobs/s"] for row in some) for some in (ours, theirs)]
    return float(best[0] / best[1])


def to_rival(rival: str, *names: str) -> Callable[[Results], float]:
    """The best of these against a rival."""
    return lambda results: (
        max(rate(results, "durable-rivals", name) for name in names) / rate(results, "durable-rivals", rival)
    )


DURABLE = (
    Goal(
        "`disk`, one caller",
        "ratio to bare SQLite",
        0.9,
        0.9,
        ratio("durable-pushes", "forebay", "sqlite"),
    ),
    Goal("`disk`, 64 callers", "ratio to bare grouped log", 0.6, 0.85, grouped(64)),
    Goal("`disk`, 256 callers", "ratio to bare grouped log", 0.9, 1, grouped(256)),
    Goal("`os`, 64 callers", "ratio to `disk`", 2, 2, os_to_disk),
    Goal(
        "`disk`, whole lives, 64 pushers",
        "jobs/s",
        50_000,
        150_000,
        plain("durable-life", "64-pushers", "jobs/s"),
    ),
    Goal("`disk`, whole lives, batches", "jobs/s", 50_000, 150_000, batches),
    Goal(
        "`disk`, whole lives, 64 pushers",
        "syncs/job",
        1,
        1,
        plain("durable-life", "64-pushers", "syncs/job"),
        True,
    ),
    Goal(
        "Python, `disk`, whole lives, 64 threads",
        "jobs/s",
        25_000,
        75_000,
        plain("python-durable", "sqlite-64:1", "jobs/s"),
    ),
    Goal("Python, `disk`, whole lives, batches", "jobs/s", 25_000, 75_000, python_batches),
    Goal("Python, `disk`", "ratio to the best durable rival", 20, 20, python_rivals),
    Goal("Rust, `disk`", "ratio to headgate", 20, 20, to_rival("headgate", "64-pushers", "many-1000")),
    Goal(
        "Rust, `?shared=true`",
        "ratio to headgate",
        20,
        20,
        to_rival("headgate", "shared-64-pushers", "shared-many-1000"),
    ),
    Goal(
        "`memory` on a file, unbounded",
        "ratio to `memory:`",
        0.8,
        0.8,
        ratio("durable-memory", "at-memory", "memory-engine"),
    ),
    Goal(
        "`memory` on a file, capacity 4096",
        "ratio to `memory:`",
        0.8,
        0.8,
        ratio("durable-memory", "at-memory-4096", "memory-engine-4096"),
    ),
    Goal(
        "a job with 1 M before it",
        "ratio to 1 000",
        1.2,
        1.2,
        ratio("durable-queue", "1000000", "1000", "µs per push, claim and completion"),
        True,
    ),
    Goal("1 M jobs opened", "seconds", 5, 5, plain("durable-recovery", "forebay", "seconds"), True),
    Goal(
        "1 M jobs opened",
        "RSS to live data",
        2,
        2,
        plain("durable-recovery", "forebay", "RSS / live data"),
        True,
    ),
    Goal("10 M jobs, spilled", "RSS MB", 700, 700, plain("durable-spill", "forebay", "RSS MB"), True),
    Goal("a file, idle", "store calls/s", 0, 0, plain("durable-idle", "forebay", "store calls/s"), True),
    Goal(
        "a shared file, idle",
        "store calls/s",
        2,
        2,
        plain("durable-idle", "forebay-shared", "store calls/s"),
        True,
    ),
)
"""Each with the figure that decides it."""
