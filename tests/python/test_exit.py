"""The end of the interpreter while dispatchers are open: clean, bounded, and with the right exit code."""

from __future__ import annotations

import time

import pytest

from scripts import ROUNDS, run

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
            while not job.cancelled:
                time.sleep(0.002)
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
    "logging": """
        import logging
        logging.basicConfig(level=logging.INFO, stream=open(os.devnull, "w"))
        @d.handler
        def work(n):
            ready.release()
            logging.info("job %s", n)
            d.push("work", n)
    """,
    "waiting": """
        @d.handler
        def work(n):
            ready.release()
            d.push("never", n).result()
    """,
}

GO = """
    d.start()
    for n in range(100):
        d.push("work", n)
    for _ in range(4):
        assert ready.acquire(timeout=20)
"""


@pytest.mark.parametrize("name", HANDLERS)
def test_exit_while_handlers_are(name: str) -> None:
    for _ in range(ROUNDS):
        started = time.monotonic()
        assert run(OPEN, HANDLERS[name], GO) == (0, "", "")
        assert time.monotonic() - started < 10


def test_exit_with_handles_iterators_and_a_dispatcher_never_started() -> None:
    code = """
    d = forebay.Dispatcher()
    events = d.subscribe()
    handles = [d.push("work", object()) for _ in range(100)]
    other = forebay.Dispatcher()
    other.handler(kind="x")(lambda: other)
    """
    assert run(code) == (0, "", "")


def test_the_exit_code_is_the_programs() -> None:
    code, out, err = run(OPEN, HANDLERS["spinning"], GO, "sys.exit(3)")
    assert (code, out, err) == (3, "", "")
    code, _, err = run(OPEN, HANDLERS["spinning"], GO, "raise LookupError('mine')")
    assert code == 1
    assert err.endswith("LookupError: mine\n")


HUNG = {
    "sleeping": "time.sleep(1000)",
    "spinning": "while True: pass",
    "locked": "l.acquire()",
}


@pytest.mark.parametrize("name", HUNG)
def test_a_handler_that_never_ends_does_not_keep_the_process(name: str) -> None:
    code = f"""
    l = threading.Lock()
    l.acquire()
    d = forebay.Dispatcher(concurrency=2, grace="100ms")
    ready = threading.Event()
    @d.handler
    def work():
        ready.set()
        {HUNG[name]}
    d.start()
    work.push()
    assert ready.wait(20)
    print("flushed, though not yet written", end="")
    """
    started = time.monotonic()
    exit_code, out, err = run(code)
    assert (exit_code, out) == (0, "flushed, though not yet written")
    assert err.startswith("forebay: handlers did not end within the grace: forebay-worker-")
    assert time.monotonic() - started < 10


def test_an_open_dump_file_is_written_at_exit(tmp_path: object) -> None:
    file = f"{tmp_path}/jobs.dump"
    push = f"d = forebay.Dispatcher(dump_file={file!r}); d.push('mail', {{'to': 'you'}})"
    assert run(push) == (0, "", "")
    look = f"""
    d = forebay.Dispatcher(dump_file={file!r})
    print([job.payload for job in d.list().jobs])
    """
    assert run(look) == (0, "[{'to': 'you'}]\n", "")
