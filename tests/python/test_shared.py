"""One file, several processes: they push to each other, and take over from each other."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Any

import forebay
import pytest
from conftest import LIMIT
from forebay import Dispatcher
from test_durable import Blocker

from scripts import Script, run

Opened = Callable[..., Dispatcher]

WORKER = """
    @d.handler(pass_job=True)
    def double(job, n):
        return [2 * n, os.getpid()]
    @d.handler(pass_job=True)
    def hold(job, _):
        say("held")
        while not job.stop_reason:
            pass
        raise RuntimeError("handed back" if job.stop_reason == "stopping" else job.stop_reason)
    say(str(os.getpid()))
    d.run()
"""


def url(folder: Path) -> str:
    """The file in this folder, shared."""
    return f"sqlite:{folder / 'jobs.db'}?shared=true"


def opening(folder: Path, **options: object) -> str:
    """The line that opens the dispatcher."""
    return f"d = forebay.Dispatcher({url(folder)!r}, **{options!r})"


def test_what_one_pushes_another_runs(opened: Opened, tmp_path: Path) -> None:
    d = opened(url=tmp_path / "jobs.db", shared=True, durability="os")
    with Script(opening(tmp_path, concurrency=2), WORKER) as one, Script(opening(tmp_path), WORKER) as two:
        workers = {int(one.line()), int(two.line())}
        handles = d.push_many([("double", n) for n in range(200)])
        results = [handle.result(LIMIT) for handle in handles]
        assert [result for result, _ in results] == [2 * n for n in range(200)]
        assert {pid for _, pid in results} <= workers
        assert {handle.durability for handle in handles} == {"os"}
        for script in (one, two):
            script.send(SIGTERM)
            assert script.end() == (0, "", "")
    assert d.push("double", 1, durability="disk").durability == "disk"


def test_a_loop_awaits_pushes_to_others(opened: Opened, tmp_path: Path) -> None:
    d = opened(url=url(tmp_path))
    with Script(opening(tmp_path), WORKER) as worker:
        worker.line()

        async def main() -> None:
            handles = await asyncio.gather(*(d.apush("double", n) for n in range(100)))
            loop = asyncio.get_running_loop()
            waits = (loop.run_in_executor(None, handle.result, LIMIT) for handle in handles)
            assert [result for result, _ in await asyncio.gather(*waits)] == [2 * n for n in range(100)]

        asyncio.run(main())


def test_a_killed_process_loses_its_job_to_another(opened: Opened, tmp_path: Path) -> None:
    d = opened(url=url(tmp_path), lease="5s")
    handle = d.push("hold")
    with Script(opening(tmp_path, lease="5s"), WORKER) as worker:
        worker.line()
        worker.expect("held")
        assert handle.status == "running"
        worker.send(SIGKILL)
        assert worker.end()[0] == -SIGKILL
    d.handler(kind="hold")(lambda _: "taken over")
    d.start(1)
    assert handle.result(LIMIT) == "taken over"
    job = handle.job()
    assert job.attempt == 2
    assert len({attempt.node for attempt in job.history}) == 2


def test_a_process_that_stops_hands_its_job_over(opened: Opened, tmp_path: Path) -> None:
    d = opened(url=url(tmp_path))
    handle = d.push("hold", None, max_attempts=2, retry="constant(1ms)")
    with Script(opening(tmp_path), WORKER) as worker:
        worker.line()
        worker.expect("held")
        worker.send(SIGTERM)
        assert worker.end() == (0, "", "")
    d.handler(kind="hold")(lambda _: "taken over")
    d.start(1)
    assert handle.result(LIMIT) == "taken over"


def test_all_share_or_one_has_it(opened: Opened, tmp_path: Path) -> None:
    own = f"""
    try:
        forebay.Dispatcher({f"sqlite:{tmp_path / 'jobs.db'}"!r})
    except forebay.AlreadyOpen as error:
        print("shared=true" in str(error))
    """
    share = f"forebay.Dispatcher({url(tmp_path)!r}).push('k')"
    d = opened(url=url(tmp_path))
    assert run(own) == (0, "True\n", "")
    assert run(share) == (0, "", "")
    assert d.len() == 1
    d.stop()
    d = opened(url=tmp_path / "jobs.db")
    assert d.len() == 1
    code, _, err = run(share)
    assert code == 1
    assert "forebay.errors.AlreadyOpen" in err


def test_other_threads_run_while_others_have_the_file(opened: Opened, tmp_path: Path) -> None:
    """Every call that writes waits for the one who writes now, and holds up no other thread meanwhile."""
    d = opened(url=url(tmp_path))
    job = d.push("k")
    handle: list[Any] = []
    calls: list[Callable[[], Any]] = [
        lambda: d.push("k", 1),
        lambda: d.cancel(job),
        lambda: d.pause("other"),
        lambda: d.flush(),
    ]
    with Blocker(tmp_path / "jobs.db") as blocker:
        threads = [threading.Thread(target=lambda call=call: handle.append(call())) for call in calls]
        for thread in threads:
            thread.start()
        # Questions are answered meanwhile, from what was written before.
        assert (d.get(job).status, d.len(), d.list().total) == ("queued", 1, 1)
        assert [thread for thread in threads[:3] if not thread.is_alive()] == []
        blocker.release()
        for thread in threads:
            thread.join(LIMIT)
    assert len(handle) == len(calls)
    assert d.get(job).status == "cancelled"


def test_the_child_of_a_fork_is_refused(tmp_path: Path) -> None:
    code = f"""
    handle = d.push("k")
    child = os.fork()
    if child == 0:
        for call in (lambda: d.push("k"), d.len, d.stop, lambda: handle.status, d.flush):
            try:
                call()
            except forebay.ForkedError:
                continue
            os._exit(1)
        own = forebay.Dispatcher({url(tmp_path)!r})
        own.push("k")
        assert own.len() == 2
        own.stop()
        sys.exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert d.len() == 2
    """
    assert run(opening(tmp_path), code) == (0, "", "")


def test_a_lease_too_short_to_be_renewed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(forebay.InvalidError, match="lease is below 5s"):
        Dispatcher(url(tmp_path), lease="1s")


def test_processes_may_open_a_new_file_at_once(tmp_path: Path) -> None:
    for n in range(10):
        file = tmp_path / f"{n}.db"
        code = f"d = forebay.Dispatcher('sqlite:{file}', shared=True); d.push('x'); d.stop()"
        with Script(code) as one, Script(code) as other:
            assert [one.end(), other.end()] == [(0, "", "")] * 2
        d = Dispatcher(f"sqlite:{file}", shared=True)
        assert d.len() == 2
        d.stop()
