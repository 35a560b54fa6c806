"""Forks: the parent's dispatcher refuses in the child, and neither side hangs."""

from __future__ import annotations

import pytest

from scripts import ROUNDS, run

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
        assert own.push("double", 21).result(20) == 42
        sys.exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    d.drain(20)
    assert [h.result(20) for h in handles] == list(range(1000))
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
    d.drain(20)
    """
    for _ in range(ROUNDS):
        assert run(PARENT, code) == (0, "", "")


def test_a_handler_may_fork() -> None:
    code = """
    @d.handler
    def forks():
        child = os.fork()
        if child == 0:
            return "in the child, to nobody"
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert forks.push().result(20) == 0
    d.drain(20)
    """
    assert run(PARENT, code) == (0, "", "")


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_multiprocessing(method: str, tmp_path: object) -> None:
    file = f"{tmp_path}/program.py"
    program = f"""
import multiprocessing, os, subprocess, sys
import forebay

def child(n):
    with forebay.Dispatcher(concurrency=2) as d:
        return d.handler(kind="double")(lambda n: 2 * n).push(n).result(20)

if __name__ == "__main__":
    with forebay.Dispatcher(concurrency=2) as d:
        @d.handler
        def shell():
            # preexec_fn forks without exec for a moment.
            program = [sys.executable, "-c", "print(1)"]
            return subprocess.run(program, preexec_fn=os.getpid, capture_output=True)
        with multiprocessing.get_context({method!r}).Pool(2) as pool:
            print(pool.map(child, range(5)))
            pool.close()
            pool.join()
        done = shell.push().result(20)
        print(done.stdout, done.stderr)
"""
    with open(file, "w") as f:
        f.write(program)
    assert run(
        f"import runpy; runpy.run_path({file!r}, run_name='__main__')"
        if method == "fork"
        else f"import subprocess; sys.exit(subprocess.run([sys.executable, {file!r}]).returncode)"
    ) == (0, "[0, 2, 4, 6, 8]\nb'1\\n' b''\n", "")


def test_a_child_does_not_wait_for_what_a_thread_of_the_parent_was_importing() -> None:
    code = """
    import types, uuid
    begun, go = threading.Event(), threading.Event()
    errors = sys.modules["forebay.errors"]
    class Slow(types.ModuleType):
        def __getattr__(self, name):
            begun.set()
            go.wait(20)
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
    assert begun.wait(20)
    sys.modules["forebay.errors"] = errors
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        unknown()
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    go.set()
    thread.join()
    """
    assert run(code) == (0, "", "")
