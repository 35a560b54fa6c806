"""The durable queue, killed and started again."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).with_name("durable_queue.py")
LIMIT = 60


def serve(file: Path) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, PROGRAM, file], stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def test_orders_outlive_the_process_that_accepted_them(tmp_path: Path) -> None:
    accepted, delivered = set[str](), set[str]()

    def note(line: str) -> None:
        what, order = line.split()
        (accepted if what == "accepted" else delivered).add(order)

    for round in range(3):
        with serve(tmp_path / "jobs.db") as process:
            orders, said = process.stdin, process.stdout
            assert orders is not None
            assert said is not None
            for n in range(10):
                print(f"{round}-{n}", file=orders, flush=True)
            while f"{round}-9" not in accepted:
                note(said.readline())
            process.send_signal(signal.SIGKILL)
            for line in said:
                note(line)
    with serve(tmp_path / "jobs.db") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        print("last\n0-0", file=process.stdin, flush=True)
        while len(accepted) < 31 or delivered < accepted:
            note(process.stdout.readline())
        process.stdin.close()
        process.terminate()
        # It may not have come to `run` yet, and then it is killed once more.
        assert process.wait(LIMIT) in (0, -signal.SIGTERM)
