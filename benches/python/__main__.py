#!/usr/bin/env python3
"""Python handlers: Forebay beside what a program would use without it, each run in a process of its own.

The contenders run in turn. Each calls a function once per job, with the job's payload by reference, and every
call is counted. Forebay keeps an id, a state, attempts and times per job; the others keep a future or less. A
pool is measured with several numbers of threads, free and pinned to one processor, because that is what suits
some of them best.

    python benches/python [--table python,python-import,...] [--rounds 5] [--jobs 200000] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable

from durable import sweep
from known import title
from tables import TABLES, Figures, Table


def alone(table: Table, name: str, jobs: int) -> Figures | None:
    """One run in a fresh process; None if the contender is not installed."""
    command = [sys.executable, __file__, "--table", table.name, "--alone", name, "--jobs", str(jobs)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=300)
    figures: Figures | None = json.loads(done.stdout)
    return figures


def medians(runs: list[Figures]) -> Figures:
    """The median of every figure."""
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def in_turn(table: Table, rounds: int, jobs: int) -> dict[str, Figures]:
    """Every contender of the table has its turn before the first one has its next."""
    runs: dict[str, list[Figures]] = {name: [] for name in table.contenders}
    for _ in range(rounds):
        for name in list(runs):
            figures = alone(table, name, jobs)
            if figures is None:
                print(f"{name}: not installed, left out", file=sys.stderr)
                del runs[name]
            else:
                runs[name].append(figures)
    return {name: medians(figures) for name, figures in runs.items()}


def show(table: Table, rows: dict[str, Figures], rounds: int) -> None:
    """Prints the table as markdown."""
    print(f"\n{table.title}, Python {sys.version.split()[0]}, medians of {rounds} in turn\n")
    columns = list(next(iter(rows.values())))
    print("| what | " + " | ".join(columns) + " |\n|---" + "|---" * len(columns) + "|")
    for name, figures in rows.items():
        print(f"| {title(name)} | " + " | ".join(f"{figures[column]:,.2f}" for column in columns) + " |")


def main() -> int:
    """Runs the tables that were asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", default=",".join(TABLES), help="which tables, separated by commas")
    parser.add_argument("--jobs", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="a line of JSON per table instead")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    tables = [TABLES[name] for name in arguments.table.split(",")]
    if arguments.alone:
        print(json.dumps(run(tables[0].measure, arguments.alone, arguments.jobs)), flush=True)
        sweep()
        # Threads that wait for work, or in a job that does not end, are not waited for.
        os._exit(0)
    for table in tables:
        rows = in_turn(table, arguments.rounds, arguments.jobs)
        if arguments.json:
            named = [{"name": n, "title": title(n), "figures": figures} for n, figures in rows.items()]
            line = {"table": table.name, "title": table.title, "rounds": arguments.rounds, "rows": named}
            print(json.dumps(line | {"jobs": arguments.jobs, "python": sys.version.split()[0]}), flush=True)
        else:
            show(table, rows, arguments.rounds)
    return 0


def run(measure: Callable[[str, int], Figures], name: str, jobs: int) -> Figures | None:
    """What one contender does; None if it is not installed."""
    try:
        return measure(name, jobs)
    except ModuleNotFoundError:
        return None


if __name__ == "__main__":
    raise SystemExit(main())
