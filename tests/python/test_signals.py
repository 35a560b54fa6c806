"""Ctrl-C and SIGTERM: while running, while waiting, once and twice."""

from __future__ import annotations

from signal import SIGINT, SIGTERM

import pytest

from scripts import Script, always, repeat

SERVICE = """
    d = forebay.Dispatcher(concurrency=2, grace="600s")
    running = threading.Semaphore(0)
    @d.handler(pass_job=True)
    def work(job):
        running.release()
        say(f"told {job.wait_stop()}")
    heard = threading.Semaphore(0)
    @d.handler(pass_job=True)
    def stubborn(job):
        running.release()
        say(f"told {job.wait_stop(stopping=False)}")
        heard.release()

    def when(semaphore, *acts):
        def run():
            assert semaphore.acquire(timeout=60)
            for act in acts:
                act()
        threading.Thread(target=run).start()
    def send(number):
        return lambda: os.kill(os.getpid(), number)
"""


@pytest.mark.parametrize("signal", [SIGINT, SIGTERM])
def test_the_first_signal_stops_gracefully(signal: int) -> None:
    code = f"""
    when(running, send({int(signal)}))
    handle = work.push()
    d.run()
    say(f"done {{handle.status}}")
    """
    always(SERVICE, code, out="told stopping\ndone succeeded\n")


def test_a_signal_comes_from_another_process() -> None:
    code = """
    running.release = lambda: say("running")
    handle = work.push()
    d.run()
    say(f"done {handle.status}")
    """
    for signal in (SIGINT, SIGTERM):
        with Script(SERVICE, code) as script:
            script.expect("running")
            script.send(signal)
            script.expect("told stopping")
            script.expect("done succeeded")
            assert script.end() == (0, "", "")


def test_the_second_ctrl_c_hands_back() -> None:
    code = """
    both = threading.Semaphore(0)
    @d.handler(pass_job=True)
    def tells(job):
        running.release()
        job.wait_stop()
        both.release()
    when(running, lambda: running.acquire(timeout=60), send(signal.SIGINT))
    when(both, send(signal.SIGINT))
    handle = stubborn.push()
    tells.push()
    try:
        d.run()
    except KeyboardInterrupt:
        # A stop that hands back waits for handlers, but not for long.
        assert heard.acquire(timeout=60)
        say(f"interrupted {handle.status} {handle.job().attempt}")
    """
    always(SERVICE, code, "handle = None", out="told lease_lost\ninterrupted queued 0\n")


@pytest.mark.parametrize("first", [SIGINT, SIGTERM])
def test_sigterm_during_a_stop_changes_nothing(first: int) -> None:
    code = f"""
    @d.handler(pass_job=True)
    def ends_later(job):
        running.release()
        job.wait_stop()
        # Nothing comes after it if nobody has taken it.
        send(signal.SIGTERM)()
        return "in time"
    when(running, send({int(first)}))
    handle = ends_later.push()
    d.run()
    say(handle.result(0))
    """
    always(SERVICE, code, out="in time\n")


def test_sigterm_stays_with_a_program_that_handles_it() -> None:
    code = """
    def mine(*_):
        say("mine")
        d.request_stop()
    signal.signal(signal.SIGTERM, mine)
    when(running, send(signal.SIGTERM))
    work.push()
    d.run()
    assert signal.getsignal(signal.SIGTERM) is mine
    say("done")
    """
    always(SERVICE, code, out="mine\ntold stopping\ndone\n")


def test_run_on_another_thread_ends_with_a_stop() -> None:
    code = """
    @d.handler
    def short():
        running.release()
    service = threading.Thread(target=d.run)
    service.start()
    short.push()
    assert running.acquire(timeout=60)
    d.drain(60)
    d.request_stop()
    service.join(60)
    assert not service.is_alive()
    say(signal.getsignal(signal.SIGTERM).name)
    """
    always(SERVICE, code, out="SIG_DFL\n")


WAITS = {
    "result": "handle.result()",
    "result with a timeout": "handle.result(1000)",
    "drain": "d.drain()",
    "push": "full.push('x')",
    "push_many": "d.push_many([('full', 1)] * 3, wait=1000)",
    "events": "[None for _ in d.subscribe()]",
    "a consumer": "d.consumer(['nothing']).next()",
    "a delivery": "delivery.wait_stop()",
}


@pytest.mark.parametrize("name", WAITS)
def test_ctrl_c_ends_a_wait(name: str) -> None:
    """Once, and once more when it waits again."""
    code = f"""
    d = forebay.Dispatcher(concurrency=2, capacity=1, grace="600s")
    running, waits = threading.Semaphore(0), threading.Semaphore(0)
    d.push("polled")
    delivery = d.consumer(["polled"]).next()
    @d.handler(pass_job=True, concurrency=1)
    def stubborn(job):
        running.release()
        job.wait_stop(stopping=False)
    d.start()
    handle = stubborn.push()
    assert running.acquire(timeout=60)
    full = d.handler(kind="full", concurrency=1)(print).options(wait=1000)
    stubborn.push()  # No more than one of them runs, so there is no room.

    def interrupt():
        for _ in range(2):
            assert waits.acquire(timeout=60)
            os.kill(os.getpid(), signal.SIGINT)
    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    for n in range(2):
        try:
            waits.release()
            {WAITS[name]}
        except KeyboardInterrupt:
            say(f"interrupted {{n}}")
    interrupter.join()
    delivery.complete()
    d.stop(0)
    """
    always(code, out="interrupted 0\ninterrupted 1\n")


def test_ctrl_c_ends_a_stop() -> None:
    """The first one cuts it short, and the next stop, without a grace, hands back."""
    code = """
    handle = stubborn.push()
    d.start()
    assert running.acquire(timeout=60)
    when(running, send(signal.SIGINT))
    try:
        running.release()
        d.stop()
    except KeyboardInterrupt:
        handed_back = d.stop(0).handed_back
        assert heard.acquire(timeout=60)
        say(f"interrupted {handed_back}")
    """
    always(SERVICE, code, out="told lease_lost\ninterrupted 1\n")


def test_a_ctrl_c_that_nobody_catches_ends_the_program() -> None:
    code = """
    when(running, send(signal.SIGINT))
    d.start()
    work.push().result()
    """
    for code_, out, err in repeat(SERVICE, code):
        assert (code_, out) == (-SIGINT, "told stopping\n")
        assert err.endswith("KeyboardInterrupt\n")
        assert err.count("Traceback") == 1
