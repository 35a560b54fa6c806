"""The same wheel on every CPython of this machine: a part of the tests, so that none is left out for long.

`make nightly` runs all of them on each.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import forebay
import pytest

ROOT = Path(__file__).parents[2]

SMOKE = [
    "test_life.py",
    "test_wait_stop.py",
    "test_exit.py::test_exit_while_handlers_are[pushing]",
    "test_exit.py::test_exit_while_handlers_are[printing]",
    "test_exit.py::test_a_handler_that_never_ends_does_not_keep_the_process[spinning]",
    "test_fork.py::test_the_child_of_a_busy_parent_ends",
    "test_signals.py::test_the_second_ctrl_c_hands_back",
    "test_interrupt.py::test_a_cancelled_handler_is_interrupted",
    "test_interrupt.py::test_what_was_not_raised_in_time_is_taken_back",
    "test_errors.py::test_subinterpreters_are_refused",
    "test_threads.py::test_workers_stay_attached_while_there_is_work",
    "test_threads.py::test_a_push_does_not_detach",
    "test_threads.py::test_a_dispatcher_in_a_cycle_is_collected",
]


def others() -> list[str]:
    """The interpreters of other versions than this one."""
    found = subprocess.run(
        [ROOT / "scripts/find-python.sh", "--all"], capture_output=True, text=True, check=True
    )
    tell = "import sys; print(sys.version_info[:2] == {})"
    return [
        python
        for python in found.stdout.split()
        if subprocess.check_output([python, "-c", tell.format(sys.version_info[:2])], text=True) == "False\n"
    ]


@pytest.mark.parametrize("python", others() or [None])
def test_another_version(python: str | None) -> None:
    if python is None:
        pytest.skip("no other CPython >= 3.11 is here")
    # pytest and what these tests need is Python code, which another version reads as well.
    places = [Path(forebay.__file__).parents[1], Path(pytest.__file__).parents[1]]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(map(str, places)),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "FOREBAY_ROUNDS": "1",
    }
    command = [python, "-m", "pytest", "-q", "-p", "pytest_timeout", "-p", "no:cacheprovider"]
    tests = [f"tests/python/{test}" for test in SMOKE]
    done = subprocess.run([*command, *tests], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
