#!/usr/bin/env python3
"""Every measurement of the performance page, one after the other, and the page itself.

    python benches/report [--quick] [--only NAME,...] [--write]

The tables are printed as they come. `--write` puts them, and how far the goals are reached, between the
markers of docs/performance.md; with `--only`, what is not measured now stays as it was measured last.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from goals import goals_table
from machine import Neighbours, machine
from page import disturbance, markdown, rewrite
from programs import Programs
from suites import SUITES, Result

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "build" / "bench.json"
PAGE = ROOT / "docs" / "performance.md"


def measure(names: list[str], quick: bool, results: dict[str, list[Result]]) -> None:
    """Runs the suites and prints each as soon as it is done; what is found is kept after every one."""
    programs = Programs(ROOT)
    for suite in SUITES:
        if suite.name not in names:
            continue
        start, neighbours = time.monotonic(), Neighbours()
        found = suite.run(programs, quick)
        results[suite.name] = [result | {"neighbours": neighbours.cores()} for result in found]
        print(f"\n## {suite.name} ({time.monotonic() - start:.0f} s)\n")
        print(markdown(suite, results[suite.name]), flush=True)
        KEPT.parent.mkdir(exist_ok=True)
        KEPT.write_text(json.dumps(results, indent=1))


def main() -> int:
    """Measures, prints, and writes if asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few rounds of few jobs: does it work at all?")
    parser.add_argument(
        "--only", help="these suites, separated by commas; none to write what was measured last"
    )
    parser.add_argument("--write", action="store_true", help="write docs/performance.md")
    arguments = parser.parse_args()
    known = [suite.name for suite in SUITES]
    names = known if arguments.only is None else [name for name in arguments.only.split(",") if name]
    if unknown := set(names) - set(known):
        parser.error(f"no suite is called {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    results: dict[str, list[Result]] = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    measure(names, arguments.quick, results)
    everything = [result for found in results.values() for result in found]
    goals = goals_table(results, PAGE.read_text()) + disturbance(everything)
    print(f"\n## goals\n\n{goals}\n\n{machine(ROOT)}")
    if arguments.write:
        blocks = {
            suite.name: markdown(suite, results[suite.name]) for suite in SUITES if suite.name in results
        }
        PAGE.write_text(rewrite(PAGE.read_text(), blocks | {"goals": goals, "machine": machine(ROOT)}))
        print(f"wrote {PAGE.relative_to(ROOT)}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
