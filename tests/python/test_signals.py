"""Ctrl-C and SIGTERM: while running, while waiting, once and twice."""

from __future__ import annotations

from signal import SIGINT, SIGTERM

import pytest

from scripts import ROUNDS, Script

SERVICE = """
    d = forebay.Dispatcher(concurrency=2, grace="60s")
    go = threading.Event()
    @d.handler(pass_job=True)
    def work(job):
        say("running")
        while not (job.stop_reason or go.is_set()):
            time.sleep(0.001)
        say(f"told {job.stop_reason}")
    @d.handler(pass_job=True)
    def stubborn(job):
        say("running")
        while not job.cancelled:
            time.sleep(0.001)
"""


@pytest.mark.parametrize("signal", [SIGINT, SIGTERM])
def test_the_first_signal_stops_gracefully(signal: int) -> None:
    for _ in range(ROUNDS):
        code = """
        work.push()
        d.run()
        say(f"done {d.get(d.list().jobs[0].id).status}")
        """
        with Script(SERVICE, code) as script:
            script.expect("running")
            script.send(signal)  # type: ignore[arg-type]
            script.expect("told stopping")
            script.expect("done succeeded")
            assert script.end() == (0, "", "")


def test_the_second_ctrl_c_hands_back() -> None:
    for _ in range(ROUNDS):
        code = """
        handle = stubborn.push()
        def watch():
            while not d.stopping:
                time.sleep(0.001)
            say("stopping")
        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            d.run()
        except KeyboardInterrupt:
            say(f"interrupted {handle.status} {handle.job().attempt}")
        """
        with Script(SERVICE, code) as script:
            script.expect("running")
            script.send(SIGINT)
            script.expect("stopping")
            script.send(SIGINT)
            script.expect("interrupted queued 0")
            assert script.end() == (0, "", "")


def test_sigterm_stays_with_a_program_that_handles_it() -> None:
    code = """
    def mine(*_):
        say("mine")
        d.request_stop()
    signal.signal(signal.SIGTERM, mine)
    work.push()
    d.run()
    assert signal.getsignal(signal.SIGTERM) is mine
    say("done")
    """
    with Script(SERVICE, code) as script:
        script.expect("running")
        script.send(SIGTERM)
        script.expect("mine")
        script.expect("told stopping")
        script.expect("done")
        assert script.end() == (0, "", "")


def test_run_on_another_thread_ends_with_a_stop() -> None:
    code = """
    service = threading.Thread(target=d.run)
    service.start()
    work.push().status
    go.set()
    d.drain(20)
    d.request_stop()
    service.join(20)
    assert not service.is_alive()
    say(signal.getsignal(signal.SIGTERM).name)
    """
    with Script(SERVICE, code) as script:
        script.expect("running")
        script.expect("told None")
        script.expect("SIG_DFL")
        assert script.end() == (0, "", "")


WAITS = {
    "result": "stubborn.push().result()",
    "result with a timeout": "stubborn.push().result(1000)",
    "drain": "stubborn.push(); d.drain()",
    "push": "stubborn.push(); full.push(); say('running'); full.push('x')",
    "push_many": "stubborn.push(); full.push(); say('running'); d.push_many([('full', 1)] * 3, wait=1000)",
    "events": "stubborn.push(); [None for _ in d.subscribe()]",
    "stop": "stubborn.push(); ready(); d.stop()",
}


@pytest.mark.parametrize("name", WAITS)
def test_ctrl_c_ends_a_wait(name: str) -> None:
    code = f"""
    d = forebay.Dispatcher(concurrency=1, capacity=1, grace="60s")
    running = threading.Event()
    def ready():
        assert running.wait(20)
    @d.handler(pass_job=True)
    def stubborn(job):
        running.set()
        say("running")
        while not job.cancelled:
            time.sleep(0.001)
    @d.handler
    def full(n=0):
        pass
    full = full.options(wait=1000)
    d.start()
    try:
        {WAITS[name]}
    except KeyboardInterrupt:
        say("interrupted")
    d.stop(0)
    """
    with Script(code) as script:
        script.expect("running")
        if name.startswith("push"):
            script.expect("running")
        script.send(SIGINT)
        script.expect("interrupted")
        assert script.end() == (0, "", "")
