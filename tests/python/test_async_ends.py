"""Async handlers and the end of their process: signals, exits and forks, each in a process of its own."""

from __future__ import annotations

import signal

import pytest

from scripts import ROUNDS, Script, run

ARUN = """
import asyncio
d = forebay.Dispatcher(grace=600)

@d.handler(pass_job=True)
async def waits(job, until):
    say("running")
    told = await asyncio.to_thread(job.wait_stop)
    if until == "told":
        return told
    say("stopping")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        say("cancelled")
        raise

async def main(until):
    handle = waits.push(until)
    before = signal.getsignal(signal.SIGINT)
    try:
        await d.arun()
    finally:
        say(handle.status)
        assert signal.getsignal(signal.SIGINT) is before
    say("after")
"""


@pytest.mark.parametrize("what", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_lets_jobs_end(what: signal.Signals) -> None:
    for _ in range(ROUNDS):
        with Script(ARUN, 'asyncio.run(main("told"))') as script:
            script.expect("running")
            script.send(what)
            script.expect("succeeded")
            script.expect("after")
            assert script.end() == (0, "", "")


def test_a_second_sigint_hands_back() -> None:
    for _ in range(ROUNDS):
        with Script(
            ARUN,
            """
            try:
                asyncio.run(main("never"))
            except KeyboardInterrupt:
                say("interrupted")
            """,
        ) as script:
            script.expect("running")
            script.send(signal.SIGTERM)
            # Of two signals that are pending at once, the one with the lower number is delivered first.
            script.expect("stopping")
            script.send(signal.SIGINT)
            script.expect("cancelled")
            script.expect("queued")
            script.expect("interrupted")
            assert script.end() == (0, "", "")


def test_an_exit_stops_the_loop_of_its_own() -> None:
    for _ in range(ROUNDS):
        code, out, err = run(
            """
            import asyncio
            d = forebay.Dispatcher(grace=0.05)
            running = threading.Event()

            @d.handler
            async def waits():
                running.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    say("ended")

            d.start()
            waits.push()
            running.wait()
            """
        )
        assert (code, out, err) == (0, "ended\n", "")


def test_a_handler_that_does_not_end_is_named() -> None:
    code, _, err = run(
        """
        import asyncio
        d = forebay.Dispatcher(grace=0.05)
        running = threading.Event()
        @d.handler
        async def hangs():
            running.set()
            threading.Event().wait()
        d.start()
        hangs.push()
        running.wait()
        """
    )
    assert (code, err) == (0, "forebay: handlers did not end within the grace: forebay-worker-loop\n")


def test_a_child_of_a_fork_leaves_the_jobs_alone() -> None:
    for _ in range(ROUNDS):
        code, out, err = run(
            """
            import asyncio
            d = forebay.Dispatcher()

            @d.handler
            async def forks():
                child = os.fork()
                if child == 0:
                    try:
                        d.push("forks")
                    except forebay.ForkedError:
                        os._exit(7)
                    os._exit(1)
                await asyncio.sleep(0)
                return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

            with d:
                say(str(forks.push().result(LIMIT)))
            """
        )
        assert (code, out, err) == (0, "7\n", "")


def test_system_exit_ends_the_loop() -> None:
    code, out, err = run(
        """
        import asyncio
        d = forebay.Dispatcher()

        @d.handler
        async def leaves():
            await asyncio.sleep(0)
            raise SystemExit(3)

        handle = leaves.push()
        d.run()
        say(handle.status)
        """
    )
    assert (code, out, err) == (0, "queued\n", "")
