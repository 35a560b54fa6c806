"""The page: results as markdown, and where they stand between its markers."""

from __future__ import annotations

import re

from suites import Result, Suite

AGAINST = {
    "throughput": ("rayon", "crossbeam"),
    "one": ("sqlite", "append"),
    "callers-64": ("follow-append", "follow-overwrite"),
    "callers-256": ("follow-append", "follow-overwrite"),
    "at-memory": ("memory-engine", "memory-engine-4096"),
    "long-queue": ("1000",),
    "rivals": ("headgate", "apalis-full"),
    "python-durable": ("huey-sqlite:1",),
    "c": ("forebay", "forebay-pull"),
    "go": ("channel:2:1024", "channel-batches"),
    "go-latency": ("latency-channel",),
    "memory": ("crossbeam",),
    "latency": ("crossbeam",),
    "python": ("executor:2 pinned", "threadpool:2 pinned"),
    "python-executor": ("executor-results:1 pinned", "executor-results:2 pinned"),
    "python-async": ("queue:100", "tasks"),
    "python-json": ("json-loop",),
    "python-latency": ("executor:2",),
}
"""With whom the rows of a table are compared."""

BY_JOBS = ("python", "python-executor", "python-async", "python-json", "python-durable")
"""The tables of the Python program that run as many jobs as they are told."""

COMPARED = ("jobs/s", "p50 µs", "bytes per job", "µs per push, claim and completion")
"""The figures whose ratios say something."""

NOISE = 0.15
"""Processors that others may use while we measure."""


def markdown(suite: Suite, results: list[Result]) -> str:
    """The command of a suite and its tables."""
    tables = grid(results) if suite.name == "axes" else "\n\n".join(table(result) for result in results)
    return f"`{suite.command}`\n\n{tables}{disturbance(results)}"


def disturbance(results: list[Result]) -> str:
    """A warning, if the machine was not quiet."""
    cores = max((result.get("neighbours", 0.0) for result in results), default=0.0)
    if cores < NOISE:
        return ""
    return (
        f"\n\n**Disturbed**: others used {cores:.1f} processors meanwhile; measure again on a quiet machine."
    )


def table(result: Result) -> str:
    """One table, with its head."""
    rows = result["rows"]
    columns = list(rows[0]["figures"])
    compared = next((name for name in COMPARED if name in columns), None)
    against = [r for r in rows if compared and r["name"] in AGAINST.get(result["table"], ())]
    head = ["what", *columns, *(f"ratio to {other['name']}" for other in against)]
    lines = [cells(head), "|---" * len(head) + "|"]
    for row in rows:
        figures = [number(row["figures"][column]) for column in columns]
        ratios = [f"{row['figures'][compared] / other['figures'][compared]:.2f}" for other in against]
        lines.append(cells([row["title"], *figures, *ratios]))
    return f"{caption(result)}\n\n" + "\n".join(lines)


def grid(results: list[Result]) -> str:
    """Tables that differ in producers and workers only, as one: M jobs/s."""
    first = results[0]
    head = ["producers", "workers", *(row["title"] for row in first["rows"])]
    lines = [cells(head), "|---" * len(head) + "|"]
    for result in results:
        shape = result["shape"]
        rates = [f"{row['figures']['jobs/s'] / 1e6:.2f}" for row in result["rows"]]
        lines.append(cells([str(shape["producers"]), str(shape["workers"]), *rates]))
    text = (
        f"{first['shape']['jobs']:,} no-op jobs of {first['shape']['payload']} bytes, million jobs per second"
    )
    return f"{text}; medians of {first['rounds']}, allocator {first['allocator']}\n\n" + "\n".join(lines)


def caption(result: Result) -> str:
    """What a table is of."""
    where = f"allocator {result['allocator']}" if "allocator" in result else f"CPython {result['python']}"
    jobs = f"{result['jobs']:,} jobs; " if result["table"] in BY_JOBS else ""
    return f"{result['title']}; {jobs}medians of {result['rounds']} runs in turn, {where}"


def cells(texts: list[str]) -> str:
    """A row."""
    return "| " + " | ".join(texts) + " |"


def number(figure: float) -> str:
    """As many digits as mean something."""
    if abs(figure) >= 1e6:
        return f"{figure / 1e6:.2f} M"
    if abs(figure) >= 1e5:
        return f"{figure / 1e3:.0f} k"
    return f"{figure:,.0f}" if abs(figure) >= 100 else f"{figure:.2f}"


def rewrite(page: str, blocks: dict[str, str]) -> str:
    """The page with each block between its markers, `<!-- NAME -->` and `<!-- /NAME -->`."""
    for name, block in blocks.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        places = list(pattern.finditer(page))
        if len(places) != 1:
            raise SystemExit(f"docs/performance.md has {len(places)} places for {name}, not one")
        opening, closing = places[0].groups()
        page = f"{page[: places[0].start()]}{opening}\n{block}\n\n{closing}{page[places[0].end() :]}"
    return page
