"""The end of the interpreter while dispatchers are open: clean, bounded, and with the right exit code."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from scripts import REPEATS, always, repeat, run

OPEN = """
    d = forebay.Dispatcher(concurrency=4, grace="200ms")
    ready = threading.Semaphore(0)
"""

HANDLERS = {
    "queued": """
        d.pause()
        @d.handler
        def work(job): pass
        ready.release(4)
    """,
    "sleeping": """
        @d.handler(pass_job=True)
        def work(job, n):
            ready.release()
            job.wait_stop()
    """,
    "asleep until they are handed back": """
        @d.handler(pass_job=True)
        def work(job, n):
            ready.release()
            job.wait_stop(stopping=False)
    """,
    "asleep in a call of C's": """
        import select
        @d.handler(pass_job=True)
        def work(job, n):
            ready.release()
            while not job.cancelled:
                select.select([], [], [], 0.005)
    """,
    "spinning": """
        @d.handler(pass_job=True)
        def work(job, n):
            ready.release()
            while not job.cancelled:
                pass
    """,
    "short": """
        @d.handler
        def work(n):
            ready.release()
    """,
    "pushing": """
        @d.handler
        def work(n):
            ready.release()
            d.push("work", n)
            d.push("work", n)
    """,
    "failing": """
        @d.handler(max_attempts="unlimited", retry="constant(1ms)")
        def work(n):
            ready.release()
            raise ValueError(n)
    """,
    "leaving": """
        @d.handler
        def work(n):
            ready.release()
            sys.exit("unheard")
    """,
    "logging": """
        import logging
        logging.basicConfig(level=logging.INFO, stream=open(os.devnull, "w"))
        @d.handler
        def work(n):
            ready.release()
            logging.info("job %s", n)
            d.push("work", n)
    """,
    "printing": """
        quiet = open(os.devnull, "w")
        @d.handler
        def work(n):
            ready.release()
            print(n, file=quiet)
            d.push("work", n)
    """,
    "waiting for another job": """
        @d.handler
        def work(n):
            ready.release()
            d.push("never", n).result()
    """,
    "holding a lock": """
        lock = threading.RLock()
        @d.handler(pass_job=True)
        def work(job, n):
            ready.release()
            with lock:
                job.wait_stop()
    """,
    "waiting for room": """
        d.configure_queue("full", capacity=1)
        d.push("never", 0, queue="full")
        @d.handler
        def work(n):
            ready.release()
            d.push("never", n, queue="full", wait=1000)
    """,
}

GO = """
    d.start()
    for n in range(100):
        d.push("work", n)
    for _ in range(4):
        assert ready.acquire(timeout=LIMIT)
"""


@pytest.mark.parametrize("name", HANDLERS)
def test_exit_while_handlers_are(name: str) -> None:
    always(OPEN, HANDLERS[name], GO)


def test_exit_takes_no_longer_than_the_grace() -> None:
    """With handlers that stop when they are told to, it takes far less: one that waits that long hangs."""
    assert run(OPEN.replace("200ms", "600s"), HANDLERS["sleeping"], GO) == (0, "", "")


def test_exit_with_handles_iterators_and_a_dispatcher_never_started() -> None:
    code = """
    d = forebay.Dispatcher()
    events = d.subscribe()
    handles = [d.push("work", object()) for _ in range(100)]
    other = forebay.Dispatcher()
    other.handler(kind="x")(lambda: other)
    """
    always(code)


def test_exit_in_the_midst_of_collections() -> None:
    code = """
    import gc
    gc.set_threshold(1)
    for _ in range(5):
        box = [forebay.Dispatcher(concurrency=2)]
        @box[0].handler
        def cycle(box=box): return [box for _ in range(100)]
        box[0].start()
        cycle.push()
        cycle.push()
    """
    always(code)


CAME_BACK = {
    "sync": "keeper.work = keeper.d.handler(kind='work')(lambda: None)",
    "interrupted": "keeper.work = keeper.d.handler(kind='work', interrupt=True)(lambda: None)",
    "async": """
async def work(): pass
keeper.work = keeper.d.handler(work)
del work
""",
    "forwarded": """
keeper.work = keeper.d.handler(kind='work')(lambda: None)
keeper.d.forward("other", lambda jobs: None)
""",
}


@pytest.mark.parametrize("name", CAME_BACK)
def test_what_came_back_from_a_collection_is_stopped(name: str) -> None:
    begin = """
    import gc
    kept = []
    class Keeper:
        def __del__(self):
            kept.append(self)
    keeper = Keeper()
    keeper.cycle, keeper.d = keeper, forebay.Dispatcher()
    """
    end = """
    keeper.d.start()
    assert keeper.work.push().result(LIMIT) is None
    del keeper
    gc.collect()
    # The collector has cleared the weak references to what it then left alone.
    assert not forebay._exit._open
    assert kept[0].work.push().result(LIMIT) is None
    """
    always(begin, CAME_BACK[name], end)


def test_the_exit_code_is_the_programs() -> None:
    always(OPEN, HANDLERS["spinning"], GO, "sys.exit(3)", code=3)
    ends = repeat(OPEN, HANDLERS["sleeping"], GO, "raise LookupError('mine')")
    for code, out, err in ends:
        assert (code, out) == (1, "")
        assert err.endswith("LookupError: mine\n")
        assert err.count("Traceback") == 1


def test_who_leaves_without_a_clean_up_is_left_alone() -> None:
    always(OPEN, HANDLERS["pushing"], GO, "os._exit(3)", code=3)
    # Nobody handles it, so it ends the process as it ends any other.
    terminated = "signal.pthread_kill(threading.get_ident(), signal.SIGTERM)"
    always(OPEN, HANDLERS["pushing"], GO, terminated, code=-signal.SIGTERM)


def test_a_ctrl_c_at_the_end_cuts_the_grace_short() -> None:
    code = """
    d = forebay.Dispatcher(concurrency=2, grace="600s")
    @d.handler(pass_job=True)
    def work(job):
        running.release()
        job.wait_stop()
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        say(job.wait_stop(stopping=False))
    running = threading.Semaphore(0)
    d.start()
    work.push()
    assert running.acquire(timeout=LIMIT)
    """
    ends = repeat(code)
    for code_, out, err in ends:
        # Nobody waits for it any more, so the process may be gone before it says what it was told.
        assert (code_, out) in ((0, "lease_lost\n"), (0, ""))
        assert err.endswith("KeyboardInterrupt\n")
        assert err.count("Traceback") == 1
    assert any(out for _, out, _ in ends)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_ctrl_c_before_anything_waits_leaves_nothing_undone(tmp_path: Path, when: str) -> None:
    code = f"""
    class Interrupted(forebay.Dispatcher):
        def request_stop(self):
            if "{when}" == "after":
                super().request_stop()
            signal.raise_signal(signal.SIGINT)
    dumps = [{str(tmp_path)!r} + f"/{{n}}.dump" for n in range(3)]
    ds = [Interrupted(dump_file=dump) for dump in dumps]
    for d in ds:
        d.push("never")
    """
    code_, out, err = run(code)
    assert (code_, out, err.count("Traceback")) == (0, "", 1), err
    assert err.endswith("KeyboardInterrupt\n")
    assert len(list(tmp_path.glob("*.dump"))) == 3


HUNG = {
    "sleeping": "threading.Event().wait()",
    "spinning": "while True: pass",
    "locked": "l.acquire()",
}


@pytest.mark.parametrize("name", HUNG)
def test_a_handler_that_never_ends_does_not_keep_the_process(name: str) -> None:
    code = f"""
    from forebay import _exit
    _exit._JOIN = _exit._LAST = 0.02
    l = threading.Lock()
    l.acquire()
    d = forebay.Dispatcher(concurrency=2, grace="20ms")
    ready = threading.Event()
    @d.handler
    def work():
        ready.set()
        {HUNG[name]}
    d.start()
    work.push()
    assert ready.wait(LIMIT)
    print("flushed, though not yet written", end="")
    """
    for exit_code, out, err in repeat(code):
        assert (exit_code, out) == (0, "flushed, though not yet written")
        assert err.startswith("forebay: handlers did not end within the grace: forebay-worker-")
        assert err.count("\n") == 1


def test_a_thread_that_runs_no_handler_is_slow_and_does_not_hang() -> None:
    """However busy the machine: nobody says that a handler did not end, and Python cleans up."""
    code = """
    import atexit
    from forebay import _exit, dispatcher
    _exit._JOIN = _exit._LAST = 0.02
    work, join, go_on = dispatcher._work, _exit.join, threading.Event()
    def slow(*args):
        work(*args)
        go_on.wait()
        say("ended")
    def hurries(threads, limit=None):
        if limit == _exit._SLOW:
            go_on.set()
        return join(threads, limit)
    dispatcher._work, _exit.join = slow, hurries
    ds = [forebay.Dispatcher(concurrency=1) for _ in range(2)]
    for d in ds:
        assert d.handler(kind="k")(lambda: 7).push() is not None
        d.start()
        d.drain(LIMIT)
    # One is gone before the end.
    del d, ds[0]
    atexit.register(say, "cleaned up")
    """
    assert run(code) == (0, "ended\nended\ncleaned up\n", "")


def test_an_open_dump_file_is_written_at_exit(tmp_path: object) -> None:
    file = f"{tmp_path}/jobs.dump"
    push = f"d = forebay.Dispatcher(dump_file={file!r}); d.push('mail', {{'to': 'you'}})"
    look = f"""
    d = forebay.Dispatcher(dump_file={file!r})
    print(len(d.list(limit=100).jobs), d.list().jobs[0].payload)
    """
    for n in range(1, REPEATS // 20 + 2):
        assert run(push) == (0, "", "")
        assert run(look) == (0, f"{n} {{'to': 'you'}}\n", "")
