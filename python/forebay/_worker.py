"""The verb `worker` of the command: serves the dispatcher of a program until somebody stops it."""

from __future__ import annotations

import os
import threading
import traceback
from contextlib import suppress

from forebay import _exit, _look, _screen, _target
from forebay._types import WorkerArguments
from forebay.dispatcher import Dispatcher
from forebay.errors import ClosedError, InvalidError

USAGE, BROKEN, INTERRUPTED = 2, 1, 130


def main(arguments: WorkerArguments) -> int:
    """Runs the verb, and returns the exit code."""
    screen = _screen.of(arguments)
    try:
        if (number := os.environ.pop(CHILD, "")) != "":
            from forebay import _supervisor

            return _supervisor.child(arguments, int(number))
        if arguments["processes"] > 1 or arguments["reload"]:
            from forebay import _supervisor

            return _supervisor.Supervisor(arguments, screen).run()
        return _alone(arguments, screen)
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        screen.close()


CHILD = "FOREBAY_WORKER_SOCKET"
"""The variable that tells a process that it is one of several: the number of its socket."""


def _alone(arguments: WorkerArguments, screen: _screen.Screen) -> int:
    dispatcher = find(arguments, screen)
    if isinstance(dispatcher, int):
        return dispatcher
    return leave(serve(dispatcher, arguments, screen))


def find(arguments: WorkerArguments, screen: _screen.Screen) -> Dispatcher | int:
    """The dispatcher, which knows its queues; or an exit code, after it was told what is wrong."""
    try:
        dispatcher = _target.find(arguments["target"])
        if (queues := arguments["queues"]) is not None:
            dispatcher.serve(queues)
    except (_target.NoTarget, InvalidError) as error:
        screen.loaded(error)
        screen.wrong(str(error), USAGE)
        return USAGE
    except _target.BrokenTarget as error:
        screen.loaded(error.__cause__)
        traceback.print_exception(*_target.trace_of(error))
        return BROKEN
    screen.loaded(None)
    return dispatcher


def serve(
    dispatcher: Dispatcher,
    arguments: WorkerArguments,
    screen: _screen.Screen,
    looks: _look.Looks | None = None,
) -> int:
    """Serves it until somebody stops it, and returns the exit code."""
    looks = looks or _look.Looks(_look.totals(dispatcher.stats()))
    # Whoever is told that it has started may stop it from then on, also before it runs.
    with dispatcher._sigterm():
        screen.started(about := _look.started(dispatcher, arguments))
        interval = screen.interval if arguments["interval"] is None else arguments["interval"]
        done = threading.Event()
        watch = (dispatcher, looks, screen, max(0.01, interval), about["grace"], done)
        watcher = threading.Thread(target=_watch, args=watch, name="forebay-screen")
        code = 0
        try:
            watcher.start()
            dispatcher.run(arguments["threads"], grace=arguments["grace"])
        except KeyboardInterrupt:
            # The first one is no error, wherever it came.
            code = INTERRUPTED if dispatcher.stopping else 0
        except ClosedError:
            pass  # It was asked to stop before it ran.
        finally:
            dispatcher.request_stop()
            done.set()
            with suppress(RuntimeError):  # It was not started.
                watcher.join()
        report = dispatcher.stop()
    screen.stopped(looks.take(_look.totals(dispatcher.stats())), report.handed_back)
    return code


def _watch(
    dispatcher: Dispatcher,
    looks: _look.Looks,
    screen: _screen.Screen,
    interval: float,
    grace: str,
    done: threading.Event,
) -> None:
    """The body of the thread that looks at the counts, until all is done."""
    with suppress(ClosedError):
        _look_on(dispatcher, looks, screen, interval)
    screen.stopping(looks.take(_look.totals(dispatcher.stats())), grace)
    while not done.wait(interval):
        screen.look(looks.take(_look.totals(dispatcher.stats())))


def _look_on(dispatcher: Dispatcher, looks: _look.Looks, screen: _screen.Screen, interval: float) -> None:
    """Looks at the counts until the dispatcher stops, and raises ClosedError then."""
    # A consumer that asks for nothing hears of the stop, and when a look is due.
    stop = dispatcher.consumer([])
    while True:
        screen.look(looks.take(_look.totals(dispatcher.stats())))
        stop.next(interval)


def leave(code: int) -> int:
    """Returns the code, unless handlers hang: then Python would wait for ever, or end with another one."""
    if names := _exit.hung():
        _exit.leave(names, code)
    return code
