"""Processes that end in every way while their jobs are in a file: what was acknowledged is there later."""

from __future__ import annotations

import random
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Any

import forebay
import pytest
from conftest import LIMIT
from forebay import Dispatcher

from scripts import ROUNDS, Script, run


def url(folder: Path) -> str:
    """The file in this folder."""
    return f"sqlite:{folder / 'jobs.db'}"


def opening(folder: Path, **options: object) -> str:
    """The line that opens the dispatcher."""
    return f"path = {url(folder)!r}; d = forebay.Dispatcher(path, **{options!r})"


def found(folder: Path) -> list[Any]:
    """The payloads of all jobs in the file that are not over, in the order of their pushes."""
    d = Dispatcher(folder / "jobs.db")
    jobs = d.list(status=("queued", "scheduled", "running"), limit=10_000).jobs
    d.stop(0)
    return [job.payload for job in reversed(jobs)]


PUSH = """
    for n in range(20):
        d.push("k", n, durability={level!r})
"""


@pytest.mark.parametrize("level", ["memory", "os", "disk"])
def test_an_end_without_a_stop_loses_nothing(level: str, tmp_path: Path) -> None:
    assert run(opening(tmp_path), PUSH.format(level=level)) == (0, "", "")
    assert found(tmp_path) == list(range(20))


@pytest.mark.parametrize("level", ["os", "disk"])
@pytest.mark.parametrize("end", ["os._exit(3)", "os.kill(os.getpid(), signal.SIGKILL)", "os.abort()"])
def test_a_death_loses_nothing_acknowledged(level: str, end: str, tmp_path: Path) -> None:
    code, _, _ = run(opening(tmp_path), PUSH.format(level=level), end)
    assert code in (3, -9, -6)
    assert found(tmp_path) == list(range(20))


PUSHERS = """
    def push(who):
        n = 0
        while True:
            d.push("k", [who, n], durability=("os", "disk")[n % 2])
            say(f"{who} {n}")
            n += 1
    for who in range(4):
        threading.Thread(target=push, args=(who,), daemon=True).start()
    threading.Event().wait()
"""


@pytest.mark.parametrize("signal", [SIGKILL, SIGTERM])
def test_a_signal_among_pushers_loses_nothing_acknowledged(signal: Any, tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    for round in range(ROUNDS):
        folder = tmp_path / str(round)
        folder.mkdir()
        with Script(opening(folder), PUSHERS) as script:
            acknowledged = [script.line() for _ in range(chance.randrange(1, 200))]
            script.send(signal)
            while line := script.line():
                acknowledged.append(line)
            assert script.end()[0] == -signal
        there = {tuple(payload) for payload in found(folder)}
        # The last line may have been cut.
        told = [tuple(map(int, line.split())) for line in acknowledged if line.endswith("\n")]
        assert [job for job in told if job not in there] == []
        # At most one push of each thread was under way.
        assert len(there) <= len(told) + 4


def test_sigterm_in_run_hands_over(tmp_path: Path) -> None:
    service = """
    @d.handler(pass_job=True)
    def work(job, n):
        say(f"running {n}")
        while not job.stop_reason:
            pass
        if n:
            return n
        while True:
            job.check()
    def cut_short():
        # The grace ends when one of them has made use of it, and not before.
        ends.result()
        d.stop(0)
    work.push(0), (ends := work.push(1)), work.push(2)
    threading.Thread(target=cut_short).start()
    d.run()
    """
    with Script(opening(tmp_path, concurrency=2, grace="600s"), service) as script:
        assert sorted([script.line(), script.line()]) == ["running 0\n", "running 1\n"]
        script.send(SIGTERM)
        assert script.end() == (0, "", "")
    with Dispatcher(tmp_path / "jobs.db") as d:
        stands = {
            job.payload["args"][0]: (job.status, job.attempt, job.crashes)
            for job in d.list().jobs
            if job.payload
        }
        assert stands == {0: ("queued", 0, 0), 2: ("queued", 0, 0)}
        assert [job.result for job in d.list(status="succeeded").jobs] == [1]


def test_an_end_with_running_handlers_gives_their_jobs_back(tmp_path: Path) -> None:
    code = """
    @d.handler
    def hangs():
        ready.set()
        threading.Event().wait()
    ready = threading.Event()
    d.start()
    hangs.push()
    assert ready.wait(LIMIT)
    """
    exit_code, out, err = run(opening(tmp_path, grace="50ms"), code)
    assert (exit_code, out) == (0, "")
    assert err.startswith("forebay: handlers did not end within the grace")
    with Dispatcher(tmp_path / "jobs.db") as d:
        (job,) = d.list().jobs
        assert (job.status, job.attempt, job.crashes) == ("queued", 0, 0)


KILLER = """
    @d.handler(max_attempts=10, retry="none")
    def kills(how):
        say("body")
        os.kill(os.getpid(), signal.SIGKILL)
    @d.handler
    def innocent():
        return "fine"
"""


def test_a_job_that_kills_its_process_fails_as_crashed(tmp_path: Path) -> None:
    push = 'kills.push("always")\nd.run()'
    assert run(opening(tmp_path, max_crashes=3), KILLER, push)[:2] == (-9, "body\n")
    for _ in range(2):
        assert run(opening(tmp_path, max_crashes=3), KILLER, "d.run()")[:2] == (-9, "body\n")
    with Dispatcher(tmp_path / "jobs.db", max_crashes=3) as d:
        d.drain(LIMIT)
        (job,) = d.list().jobs
        assert (job.status, job.error_kind, job.crashes, job.attempt) == ("failed", "crashed", 3, 3)
        assert job.error is not None
        with pytest.raises(forebay.JobFailed, match="crashed"):
            d.push("kills", id=job.id).result(LIMIT)


def test_who_runs_beside_it_runs_again(tmp_path: Path) -> None:
    code = """
    beside = threading.Event()
    @d.handler
    def waits():
        beside.set()
        threading.Event().wait()
    waits.push()
    d.start()
    assert beside.wait(LIMIT)
    kills.push("once")
    threading.Event().wait()
    """
    assert run(opening(tmp_path, concurrency=2), KILLER, code)[0] == -9
    with Dispatcher(tmp_path / "jobs.db", concurrency=1) as d:
        waits = d.handler(kind="waits")(lambda: "ran")
        d.handler(kind="kills")(lambda how: "spared")
        d.drain(LIMIT)
        jobs = {job.kind: job for job in d.list().jobs}
        assert waits.kind in jobs
        assert {kind: (job.result, job.attempt, job.crashes) for kind, job in jobs.items()} == {
            "waits": ("ran", 2, 1),
            "kills": ("spared", 2, 1),
        }


def test_a_second_process_hears_who_has_the_file(tmp_path: Path) -> None:
    d = Dispatcher(tmp_path / "jobs.db")
    code = """
    try:
        forebay.Dispatcher(path)
    except forebay.AlreadyOpen as error:
        print(str(os.getppid()) in str(error), "in use by process" in str(error))
    """
    assert run(f"path = {url(tmp_path)!r}", code) == (0, "True True\n", "")
    d.push("k", "still mine")
    d.stop()
    assert found(tmp_path) == ["still mine"]


def test_the_child_of_a_fork_is_refused(tmp_path: Path) -> None:
    code = """
    @d.handler
    def work(n):
        return n
    d.start()
    handles = [work.push(n) for n in range(50)]
    child = os.fork()
    if child == 0:
        for call in (lambda: d.push("work", 1), d.flush, d.stop, lambda: handles[0].result(), d.len):
            try:
                call()
            except forebay.ForkedError:
                continue
            os._exit(1)
        try:
            forebay.Dispatcher(path)
        except forebay.AlreadyOpen:
            del d, work, handles
            sys.exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    handles += [work.push(n) for n in range(50, 100)]
    assert [h.result(LIMIT) for h in handles] == list(range(100))
    """
    for _ in range(ROUNDS):
        folder = tmp_path / str(_)
        folder.mkdir()
        assert run(opening(folder), code) == (0, "", "")
        assert found(folder) == []


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_children_have_files_of_their_own(method: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(f"""
import multiprocessing, sys
from pathlib import Path
import forebay

here = Path({str(tmp_path)!r})

def child(n):
    with forebay.Dispatcher(here / f"{{n}}.db") as d:
        d.push("kept", n)
        return d.handler(kind="double")(lambda n: 2 * n).push(n).result({LIMIT})

if __name__ == "__main__":
    with forebay.Dispatcher(here / "jobs.db") as d:
        d.push("mine", "before")
        with multiprocessing.get_context({method!r}).Pool(2) as pool:
            print(pool.map(child, range(4)))
            pool.close()
            pool.join()
        d.push("mine", "after")
""")
    command = (
        "import subprocess; sys.exit(subprocess.run([sys.executable, '-W', 'ignore', program]).returncode)"
    )
    assert run(f"program = {str(program)!r}", command) == (0, "[0, 2, 4, 6]\n", "")
    assert found(tmp_path) == ["before", "after"]
    for n in range(4):
        d = Dispatcher(tmp_path / f"{n}.db")
        assert [job.payload for job in d.list(kind="kept").jobs] == [n]
        d.stop(0)


def test_a_store_that_fails_says_so_and_acknowledges_nothing_more(tmp_path: Path) -> None:
    code = """
    import resource
    acknowledged = []
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
    def fails(error, call):
        try:
            call()
        except error as failed:
            return failed
        raise AssertionError(error)
    def push():
        while True:
            acknowledged.append(d.push("k", "x" * 1000))
    assert "shows when the store is opened again" in str(fails(forebay.OutcomeUnknown, push))
    for call in (push, d.flush, lambda: d.push("k", durability="os"), d.stop):
        assert "until it is opened again" in str(fails(forebay.StorageError, call))
    assert {d.get(handle).status for handle in acknowledged} == {"queued"}, "questions are answered"
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    after = forebay.Dispatcher(path)
    assert {after.get(handle).status for handle in acknowledged} == {"queued"}
    assert len(acknowledged) <= after.len() <= len(acknowledged) + 1
    after.push("k")
    after.stop()
    # The end would stop the one that failed once more, and say so.
    os._exit(0)
    """
    assert run(opening(tmp_path), code) == (0, "", "")
