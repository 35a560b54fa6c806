"""The goals, and how far they are reached by what was measured last."""

from __future__ import annotations

from durable_goals import DURABLE
from goal import Goal, Results, plain, rate, ratio
from python_goals import PYTHON


def producers(results: Results) -> float:
    """Eight producers against two, two workers."""
    rates = {
        result["shape"]["producers"]: row["figures"]["jobs/s"]
        for result in results["axes"]
        for row in result["rows"]
        if row["name"] == "forebay" and result["shape"]["workers"] == 2
    }
    return float(rates[8] / rates[2])


def best_go(results: Results) -> float:
    """`PushMany` in Go, at the better of its batches."""
    return max(rate(results, "go", f"push-many-{size}") for size in (64, 256))


GOALS = (
    *(
        Goal(f"Rust closures, {allocator}", "ratio to `rayon::spawn`", 2, 3, ratio(suite, "forebay", "rayon"))
        for allocator in ("glibc", "jemalloc", "mimalloc")
        if (suite := f"throughput-{allocator}")
    ),
    Goal(
        "Rust closures, glibc",
        "ratio to crossbeam pool",
        1,
        1.4,
        ratio("throughput-glibc", "forebay", "crossbeam"),
    ),
    Goal(
        "Rust closures, jemalloc",
        "ratio to crossbeam pool",
        0.25,
        0.4,
        ratio("throughput-jemalloc", "forebay", "crossbeam"),
    ),
    Goal(
        "Rust closures, glibc",
        "CPU µs/job",
        0.4,
        0.25,
        plain("throughput-glibc", "forebay", "CPU µs/job"),
        True,
    ),
    Goal(
        "`push_many` of 64",
        "ratio to single pushes",
        1.2,
        2,
        ratio("throughput-glibc", "forebay-many", "forebay"),
    ),
    Goal(
        "batches of 64, both sides",
        "ratio to single jobs",
        1.2,
        2,
        ratio("throughput-glibc", "forebay-pull", "forebay"),
    ),
    *PYTHON,
    Goal("C callbacks", "ratio to Rust closures", 0.9, 0.9, ratio("c", "c-callback", "forebay")),
    Goal(
        "C callbacks, pushed 64 at a time",
        "ratio to Rust closures",
        0.9,
        0.9,
        ratio("c", "c-callback-many", "forebay-many"),
    ),
    Goal("C, poll and finish of 64", "ratio to Rust closures", 0.9, 0.9, ratio("c", "c-poll", "forebay")),
    Goal(
        "C, poll and finish of 64", "ratio to Rust in batches", 0.9, 0.9, ratio("c", "c-poll", "forebay-pull")
    ),
    Goal("Go, `PushMany` and `Run`", "jobs/s", 1_000_000, 3_000_000, best_go),
    Goal(
        "memory per queued 100-byte job", "bytes", 230, 200, plain("memory", "forebay", "bytes per job"), True
    ),
    Goal(
        "Rust latency at 1 000/s, p50",
        "ratio to crossbeam",
        1.5,
        1.5,
        ratio("latency", "forebay", "crossbeam", "p50 µs"),
        True,
    ),
    Goal(
        "1 M finished jobs kept",
        "ratio to keeping none",
        0.95,
        0.95,
        ratio("kept", "forebay-kept", "forebay-unkept"),
    ),
    Goal("8 producers", "ratio to 2 producers", 0.8, 0.8, producers),
    Goal("idle", "wake-ups/s", 0, 0, plain("idle", "forebay", "wake-ups/s"), True),
    Goal("idle", "% of a core", 0.1, 0.1, plain("idle", "forebay", "% of a core"), True),
    *(
        Goal(
            f"uncontended push with {title}",
            "ratio to no rule",
            1.1,
            1.05,
            ratio("policies", name, "plain", "ns/push"),
            True,
        )
        for name, title in (
            ("drop-oldest", "a bound and `drop_oldest`"),
            ("all", "bytes, `drop_oldest`, delay and budget"),
        )
    ),
    Goal(
        "beside a blocked handler",
        "worst start, µs",
        100_000,
        20_000,
        plain("blocked", "forebay", "worst µs"),
        True,
    ),
)


GOALS += DURABLE


def goals_table(results: Results, page: str) -> str:
    """Every goal with what was found; what was not measured now stays as the page has it."""
    lines = ["| workload | figure | goal | stretch | found | reached |", "|---|---|---|---|---|---|"]
    for goal in GOALS:
        sign = "≤" if goal.most else "≥"
        head = f"| {goal.workload} | {goal.figure} | {sign} {goal.sure:g} | {sign} {goal.stretch:g} |"
        try:
            value = goal.value(results)
        except (KeyError, StopIteration):
            former = (line for line in page.splitlines() if line.startswith(head))
            lines.append(next(former, f"{head} not measured |  |"))
        else:
            lines.append(f"{head} {value:,.2f} | {goal.verdict(value)} |")
    return "\n".join(lines)
