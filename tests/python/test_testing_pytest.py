"""The pytest plugin, in runs of pytest of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from conftest import LIMIT
from forebay import Dispatcher
from forebay.testing import Stage

PROGRAM = """
    import forebay

    d = forebay.Dispatcher("sqlite:/no/such/folder/jobs.db")
    ran = []

    @d.handler
    def send(to: str) -> None:
        ran.append(to)
"""


def run(folder: Path, ini: str, *arguments: str, **files: str) -> tuple[int, str]:
    """Runs pytest on these files: its exit code and what it said."""
    (folder / "pytest.ini").write_text("[pytest]\n" + textwrap.dedent(ini))
    for name, text in files.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(text))
    # Nothing but what pytest finds by itself of ours: the plugins of the environment take seconds.
    ours = ["-p", "forebay", "-p", "no:cacheprovider", "-W", "error"]
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "-q", *ours, *arguments]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=3 * LIMIT
    )
    return done.returncode, done.stdout + done.stderr


def test_the_fixtures_are_there(forebay_stage: Stage, forebay_dispatcher: Dispatcher) -> None:
    assert forebay_stage.dispatcher is forebay_dispatcher
    double = forebay_dispatcher.handler(kind="double")(lambda n: 2 * n)
    handle = double.push(4)
    forebay_stage.drain()
    assert handle.result(0) == 8


other = Dispatcher()
send = other.handler(kind="send")(lambda to: to)


@pytest.mark.forebay(other, seed=4, max_attempts=8)
def test_a_marker_names_the_dispatcher(forebay_stage: Stage) -> None:
    send.push("ann")
    forebay_stage.assert_enqueued(send, "ann")
    assert forebay_stage.dispatcher.settings["max_attempts"] == "8"
    assert other.settings["max_attempts"] == "8"


@pytest.mark.forebay("test_testing_pytest:other", inline=False, max_attempts=9)
class TestMarkers:
    @pytest.mark.forebay(inline=True)
    def test_the_nearer_one_counts(self, forebay_stage: Stage) -> None:
        assert forebay_stage.inline
        assert forebay_stage.dispatcher.settings["max_attempts"] == "9"


def test_a_program_that_opens_a_file_at_its_import_is_tested_in_memory(tmp_path: Path) -> None:
    ini = "forebay_in_memory = true\nforebay_dispatcher = program:d\npythonpath = .\n"
    tests = """
        import program
        import pytest

        @pytest.mark.parametrize("n", range(3))
        def test_sends(forebay_stage, n):
            program.send.push("ann")
            forebay_stage.assert_enqueued(program.send, to="ann", count=1)
            assert forebay_stage.drain().succeeded == 1
            assert len(program.ran) == n + 1
    """
    conftest = "import program\n"
    code, said = run(tmp_path, ini, program=PROGRAM, conftest=conftest, test_program=tests)
    assert (code, "3 passed" in said) == (0, True), said
    code, said = run(tmp_path, "pythonpath = .\n", program=PROGRAM, conftest=conftest, test_program=tests)
    assert "StorageError" in said
    code, said = run(tmp_path, "pythonpath = .\n", "--forebay-in-memory")
    assert "3 failed" in said or "3 error" in said, said
    assert "StorageError" not in said


def test_a_failing_assertion_shows_what_is_enqueued_and_none_of_ours(tmp_path: Path) -> None:
    tests = """
        def test_fails(forebay_stage, forebay_dispatcher):
            forebay_dispatcher.push("mail", "ann")
            forebay_stage.assert_enqueued("mail", "bob")

        def test_report(forebay_stage, forebay_dispatcher):
            assert forebay_stage.drain().succeeded == 1
    """
    code, said = run(tmp_path, "", test_fails=tests)
    assert code == 1
    assert "nearest: mail('ann')" in said
    assert "0: 'ann', not 'bob'" in said
    assert "_stage.py" not in said
    assert "assert 0 == 1" in said
    assert "where 0 = <forebay.testing.Report succeeded=0 failed=0 retried=0 left=0>.succeeded" in said


def test_help_and_markers_tell_of_it(tmp_path: Path) -> None:
    _, said = run(tmp_path, "", "--help")
    assert "--forebay-in-memory" in said
    assert "forebay_dispatcher (string):" in said
    assert "forebay_in_memory (bool):" in said
    _, said = run(tmp_path, "", "--markers")
    assert "@pytest.mark.forebay(dispatcher=None" in said
    _, said = run(tmp_path, "", "--fixtures")
    told = said.partition("fixtures defined from _forebay_pytest")[2].partition("---- fixtures")[0]
    assert "A stage of forebay.testing" in told
    assert "no docstring" not in told


def test_a_wrong_name_is_told(tmp_path: Path) -> None:
    tests = "def test_it(forebay_stage): pass\n"
    _, said = run(tmp_path, "forebay_dispatcher = program\n", test_it=tests)
    assert "'program' names no dispatcher; write \"module:attribute\"" in said


def test_who_does_not_use_it_does_not_import_it(tmp_path: Path) -> None:
    tests = """
        import sys

        def test_nothing_of_it_is_imported():
            assert "_forebay_pytest" in sys.modules
            assert [name for name in sys.modules if name.partition(".")[0] == "forebay"] == []
    """
    code, said = run(tmp_path, "", test_it=tests)
    assert (code, "1 passed" in said) == (0, True), said
