"""Forks: the parent's dispatcher refuses in the child, and neither side hangs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import LIMIT

from scripts import REPEATS, always, run

FEW = max(1, REPEATS // 10)
"""Where each program forks ten times itself."""

PARENT = """
    d = forebay.Dispatcher(concurrency=4)
    @d.handler
    def work(n):
        d.push("more", object())
        return n
    @d.handler
    def more(n):
        pass
    d.start()
    handles = [work.push(n) for n in range(1000)]

    def refused(call):
        try:
            call()
        except forebay.ForkedError:
            return
        raise AssertionError(call)
"""


def test_every_method_refuses_in_the_child() -> None:
    code = """
    job = handles[0].id
    calls = [
        lambda: d.push("work", 1), lambda: work.push(1), lambda: d.push_many([("work", 1)]),
        lambda: d.get(job), lambda: d.list(), lambda: d.cancel(job), lambda: d.pause(), lambda: d.resume(),
        lambda: d.purge(), lambda: d.len(), lambda: d.explain(job), lambda: d.stats(), lambda: d.metrics(),
        lambda: d.dump("/nowhere/at/all"), lambda: d.restore("/nowhere/at/all"), lambda: d.drain(),
        lambda: d.stop(), lambda: d.request_stop(), lambda: d.flush(), lambda: d.retry(job),
        lambda: d.signal(job, "t"), lambda: d.worker(),
        lambda: d.handler(kind="late")(print), lambda: handles[0].result(), lambda: handles[0].status,
        lambda: handles[0].cancel(), lambda: handles[0].job(), lambda: d.start(), lambda: d.run(),
    ]
    child = os.fork()
    if child == 0:
        for call in calls:
            refused(call)
        own = forebay.Dispatcher()
        own.handler(kind="double")(lambda n: 2 * n)
        own.start()
        assert own.push("double", 21).result(LIMIT) == 42
        sys.exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    d.drain(LIMIT)
    assert [h.result(LIMIT) for h in handles] == list(range(1000))
    """
    assert run(PARENT, code) == (0, "", "")


def test_the_child_of_a_busy_parent_ends() -> None:
    code = """
    for round in range(10):
        child = os.fork()
        if child == 0:
            del work, more, handles, d
            sys.exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        handles = [work.push(n) for n in range(100)]
    d.drain(LIMIT)
    """
    always(PARENT, code, rounds=FEW)


def test_a_handler_may_fork() -> None:
    code = """
    @d.handler
    def forks():
        child = os.fork()
        if child == 0:
            return "in the child, to nobody"
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert forks.push().result(LIMIT) == 0
    d.drain(LIMIT)
    """
    always(PARENT, code)


def test_a_child_works_with_a_dispatcher_of_its_own() -> None:
    """The parent's workers run meanwhile, and hold whatever locks they hold."""
    code = """
    for round in range(10):
        child = os.fork()
        if child == 0:
            with forebay.Dispatcher(concurrency=2) as own:
                double = own.handler(kind="double")(lambda n: 2 * n)
                assert [double.push(n).result(LIMIT) for n in range(10)] == list(range(0, 20, 2))
            sys.exit(7)
        handles = [work.push(n) for n in range(100)]
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    d.drain(LIMIT)
    """
    always(PARENT, code, rounds=FEW)


def test_a_program_started_beside_workers_that_run() -> None:
    """With preexec_fn, Python forks without exec for a moment."""
    code = """
    import subprocess
    @d.handler
    def shell(n):
        done = subprocess.run(["/bin/echo", str(n)], preexec_fn=os.getpid, capture_output=True)
        return done.stdout, done.stderr
    shells = [shell.push(n) for n in range(10)]
    mine = subprocess.run(["/bin/echo", "mine"], preexec_fn=os.getpid, capture_output=True)
    assert (mine.stdout, mine.stderr) == (b"mine\\n", b"")
    assert [s.result(LIMIT) for s in shells] == [(b"%d\\n" % n, b"") for n in range(10)]
    d.drain(LIMIT)
    """
    always(PARENT, code, rounds=FEW)


MULTIPROCESSING = """
import multiprocessing, os, sys
import forebay

def child(n):
    # One process for each.
    with forebay.Dispatcher(concurrency=2) as d:
        return d.handler(kind="double")(lambda n: 2 * n).push(n).result(60)

if __name__ == "__main__":
    method, rounds = sys.argv[1], int(sys.argv[2])
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(["forebay"])
    with forebay.Dispatcher(concurrency=2) as d:
        busy = d.handler(kind="busy", pass_job=True)(lambda job: job.wait_stop())
        busy.push()
        with context.Pool(2, maxtasksperchild=1) as pool:
            assert pool.map(child, range(rounds), chunksize=1) == [2 * n for n in range(rounds)]
            pool.close()
            pool.join()
"""


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_multiprocessing(method: str, tmp_path: Path) -> None:
    file = tmp_path / "program.py"
    file.write_text(MULTIPROCESSING)
    # Each child of spawn is an interpreter that starts.
    rounds = REPEATS // 3 if method == "spawn" else REPEATS
    command = [sys.executable, "-W", "ignore:This process:DeprecationWarning", str(file), method, str(rounds)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT * 6)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_child_does_not_wait_for_what_a_thread_of_the_parent_was_importing() -> None:
    code = """
    import types, uuid
    begun, go = threading.Event(), threading.Event()
    errors = sys.modules["forebay.errors"]
    class Slow(types.ModuleType):
        def __getattr__(self, name):
            begun.set()
            go.wait(LIMIT)
            return getattr(errors, name)
    def unknown():
        try:
            forebay.Dispatcher().get(uuid.UUID(int=1))
        except forebay.NotFoundError:
            return
        raise AssertionError
    sys.modules["forebay.errors"] = Slow("forebay.errors")
    thread = threading.Thread(target=unknown)
    thread.start()
    assert begun.wait(LIMIT)
    sys.modules["forebay.errors"] = errors
    child = os.fork()
    if child == 0:
        signal.alarm(int(LIMIT))
        unknown()
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    go.set()
    thread.join()
    """
    assert run(code) == (0, "", "")
