"""Several worker processes of one program: starts them, starts them anew when they die, passes signals on.

Each child is a `forebay worker` of its own, in a session of its own, so that a Ctrl-C reaches this process
alone, which passes it on once. A socket joins it to this process: the child tells its looks, and hears by the
end of the socket that this process is gone, whatever ended it; then it stops as after a SIGTERM. Children
share nothing but the file, which is why one that is killed loses nothing.

With `--reload` there may be one alone, and a change of the program has all stop, and start again. A program
that cannot be loaded is one that waits for its next change.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import IO, Any, cast

from forebay import _reload, _screen, _worker
from forebay._look import ZERO, Counts, Looks, Started, Totals, totals
from forebay._types import WorkerArguments
from forebay.dispatcher import Dispatcher

_PAUSE, _LONGEST_PAUSE = 0.1, 30.0
"""The pause before a child that died is started anew, which doubles with each death in a row, in seconds."""
_WELL = 60.0
"""A child that has lived for so long, in seconds, did not die of how it starts."""


class _Child:
    """One of the processes, through all its lives."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.process: subprocess.Popen[bytes] | None = None
        self.due: float | None = None
        self.deaths = 0
        # Whether it has said that it stops, and whether it is to do so at once.
        self._stops, self._hurries = False, False
        self._born = 0.0
        self.born_ns = 0
        self.serves = False
        """Whether it has found the dispatcher, in its present life or its last."""
        self._pipe: socket.socket | None = None
        self._rest = b""
        self.output: IO[bytes] | None = None
        self._line = b""

    def start(self, words: list[str], selector: selectors.BaseSelector, above: bool) -> None:
        """Its next life; `above` if what it prints is shown by this process, whose screen has a foot."""
        ours, theirs = socket.socketpair()
        self._born, self.born_ns = time.monotonic(), time.time_ns()
        with theirs:
            environment = os.environ | {_worker.CHILD: str(theirs.fileno())}
            if above:
                environment["PYTHONUNBUFFERED"] = "1"
            self.process = subprocess.Popen(
                words,
                env=environment,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if above else None,
                stderr=subprocess.STDOUT if above else None,
                start_new_session=True,
            )
        if (output := self.process.stdout) is not None:
            os.set_blocking(output.fileno(), False)
            self.output = output
            selector.register(output, selectors.EVENT_READ, self)
        ours.setblocking(False)
        self._pipe, self._rest, self.due = ours, b"", None
        self._stops = self.serves = False
        selector.register(ours, selectors.EVENT_READ, self)

    def hear(self, selector: selectors.BaseSelector) -> list[dict[str, Any]]:
        """What it has told since the last time."""
        assert self._pipe is not None, "it is asked because its socket has something"
        try:
            data = self._pipe.recv(1 << 16)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            self._close(selector)
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def print(self, selector: selectors.BaseSelector) -> bool:
        """Shows what it has printed since the last time, line by line; false if there was nothing."""
        assert self.output is not None, "it is asked because its output has something"
        try:
            data = os.read(self.output.fileno(), 1 << 16)
        except BlockingIOError:
            return False
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            sys.stdout.write(line.decode(errors="replace") + "\n")
        if not data:
            self._end_output(selector)
        return bool(data)

    def ended(self, selector: selectors.BaseSelector) -> tuple[int, list[dict[str, Any]]] | None:
        """How it ended, with the last it told, if it has ended; `bury` it after that."""
        if self.process is None or (code := self.process.poll()) is None:
            return None
        last: list[dict[str, Any]] = []
        while self._pipe is not None and (told := self.hear(selector)):
            last += told
        self._close(selector)
        # Something that it started may still hold its output open: only what is there is waited for.
        while self.output is not None and self.print(selector):
            pass
        self._end_output(selector)
        return code, last

    def bury(self) -> None:
        """Its life is over, and what it told in it has been heard."""
        self.process = None
        self.deaths = 1 if time.monotonic() - self._born > _WELL else self.deaths + 1

    def _end_output(self, selector: selectors.BaseSelector) -> None:
        if self.output is not None:
            selector.unregister(self.output)
            self.output.close()
            self.output = None
        if self._line:
            sys.stdout.write(self._line.decode(errors="replace") + "\n")
            self._line = b""

    def hurry(self) -> None:
        """Has it hand back what it runs, which it does at a SIGINT once it stops.

        Not before: of two signals that come together, it could take this one for the first.
        """
        self._hurries = True
        if self._stops:
            self.tell(signal.SIGINT)

    def stops(self) -> None:
        """It has heard that it is to stop."""
        self._stops = True
        if self._hurries:
            self.tell(signal.SIGINT)

    def tell(self, what: signal.Signals) -> None:
        """Sends it a signal, if it lives."""
        if self.process is not None:
            self.process.send_signal(what)

    def _close(self, selector: selectors.BaseSelector) -> None:
        if self._pipe is not None:
            selector.unregister(self._pipe)
            self._pipe.close()
            self._pipe = None


class Supervisor:
    """The parent of the worker processes. For the main thread."""

    def __init__(self, arguments: WorkerArguments, screen: _screen.Screen) -> None:
        """Of as many as the arguments say."""
        self._arguments = arguments
        self._screen = screen
        self._selector = selectors.DefaultSelector()
        self._children = [_Child(number) for number in range(1, arguments["processes"] + 1)]
        self._about: Started | None = None
        self._looks: Looks | None = None
        self._counts: Counts | None = None
        self._handed_back = 0
        self._stopping = False
        self._code = 0
        self._watch = _reload.Watch() if arguments["reload"] else None
        self._next_look = time.monotonic() + _reload.PERIOD
        # Whether all are to end because the program has changed, and whether it waits for that.
        self._reloading = self._broken = False

    def run(self) -> int:
        """Serves until somebody stops it, and returns the exit code."""
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setblocking(False)
        self._selector.register(ours, selectors.EVENT_READ, None)
        former = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        signals = (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)
        handlers = [signal.signal(each, lambda *_: None) for each in signals]
        try:
            # The others follow when the first has found the dispatcher: one traceback is enough.
            self._start(self._children[0])
            while self._step(ours):
                pass
        finally:
            signal.set_wakeup_fd(former)
            for each, handler in zip(signals, handlers, strict=True):
                signal.signal(each, handler)
            for child in self._children:
                child.tell(signal.SIGKILL)
            self._selector.close()
            ours.close()
            theirs.close()
        if self._counts is not None and self._about is not None:
            self._screen.stopped(self._counts, self._handed_back)
        return self._code

    def _step(self, signals: socket.socket) -> bool:
        """Waits for something to happen and deals with it; false when nothing more will."""
        due = [child.due for child in self._children if child.due is not None]
        if self._watch is not None:
            due.append(self._next_look)
        wait = max(0.0, min(due) - time.monotonic()) if due else None
        for key, _ in self._selector.select(wait):
            if key.data is not None and key.fileobj is key.data.output:
                key.data.print(self._selector)
                continue
            if key.data is not None:
                for told in key.data.hear(self._selector):
                    self._told(key.data, told)
                continue
            with suppress(BlockingIOError):
                for number in signals.recv(4096):
                    self._signal(signal.Signals(number))
        for child in self._children:
            self._bury(child)
            if child.due is not None and child.due <= time.monotonic():
                self._start(child)
        if self._watch is not None and not self._stopping:
            self._reload(self._watch)
        return self._broken or any(
            child.process is not None or child.due is not None for child in self._children
        )

    def _reload(self, watch: _reload.Watch) -> None:
        """Has all end when the program has changed, and start when they have."""
        now = time.monotonic()
        if not self._reloading and now >= self._next_look:
            self._next_look = now + _reload.PERIOD
            if (file := watch.changed()) is not None:
                self._screen.note(f"{os.path.relpath(file)} has changed; starting again", file=file)
                self._reloading = True
                for child in self._children:
                    child.due = None
                    child.tell(signal.SIGTERM)
        if self._reloading and all(child.process is None for child in self._children):
            watch.renew()
            self._reloading = self._broken = False
            # The counts of a memory begin anew; and whoever was told to end did not die.
            self._looks = None
            for child in self._children:
                child.deaths = 0
            self._start(self._children[0])

    def _start(self, child: _Child) -> None:
        said = self._arguments
        words = [sys.executable, "-m", "forebay", "worker", said["target"]]
        interval = self._screen.interval if said["interval"] is None else said["interval"]
        words += [f"--interval={1000 * interval:.0f}ms", f"--processes={said['processes']}"]
        if said["reload"]:
            words.append("--reload")
        if said["queues"] is not None:
            words.append(f"--queues={','.join(said['queues'])}")
        if said["threads"] is not None:
            words.append(f"--threads={said['threads']}")
        if said["grace"] is not None:
            words.append(f"--grace={1000 * said['grace']:.0f}ms")
        child.start(words, self._selector, self._screen.has_foot)

    def _told(self, child: _Child, told: dict[str, Any]) -> None:
        event = told.pop("event")
        if event == "files":
            if self._watch is not None:
                self._watch.add(told["files"], child.born_ns)
            return
        if event == "started":
            self._started(child, told)
            return
        if event == "stopping":
            child.stops()
            return
        if event == "stopped":
            self._handed_back += told.pop("handed_back")
        # The counts are those of the file, so one child is enough to tell them.
        first = next((each for each in self._children if each.process is not None), None)
        if event == "stopped" or child is first:
            now = cast(Totals, told)
            if self._looks is None:
                self._looks = Looks(now)
            self._counts = self._looks.take(now)
            # The first counts come before the child serves: what ends is counted from there.
            if event == "counts" and self._about is not None:
                self._screen.look(self._counts)

    def _started(self, child: _Child, told: dict[str, Any]) -> None:
        child.serves = True
        pid = told["pid"]
        if child.deaths:
            self._screen.note(f"process {child.number} is back, as {pid}", process=child.number, pid=pid)
        elif self._about is not None and child is self._children[0]:
            self._screen.note(f"loaded again, by {pid}", process=child.number, pid=pid)
        if self._about is None:
            self._about = cast(Started, told | {"processes": len(self._children), "pid": os.getpid()})
            self._screen.started(self._about)
        if self._stopping or self._reloading:
            return
        for other in self._children:
            if other.process is None and other.due is None:
                self._start(other)

    def _signal(self, number: signal.Signals) -> None:
        if number == signal.SIGCHLD:
            return
        if not self._stopping:
            self._stop()
        elif number == signal.SIGINT:
            for child in self._children:
                child.hurry()

    def _stop(self) -> None:
        self._stopping, self._broken = True, False
        for child in self._children:
            child.due = None
            child.tell(signal.SIGTERM)
        if self._counts is not None and self._about is not None:
            self._screen.stopping(self._counts, self._about["grace"])

    def _bury(self, child: _Child) -> None:
        """Deals with the end of a child, if it has ended."""
        if (ended := child.ended(self._selector)) is None:
            return
        code, last = ended
        for told in last:
            self._told(child, told)
        child.bury()
        if self._stopping:
            # One that had not begun to listen is ended by the signal itself.
            self._code = max(self._code, code)
        elif self._reloading:
            pass
        elif self._waits_for_a_change(child, code):
            self._broken = True
        elif self._about is None and code in (_worker.USAGE, _worker.BROKEN):
            # It has told why, and every other one would.
            self._code = code
            self._stop()
        else:
            pause = min(_LONGEST_PAUSE, _PAUSE * 2 ** (child.deaths - 1))
            child.due = time.monotonic() + pause
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            text = f"process {child.number} {how}; a new one starts in {pause:g}s"
            self._screen.note(text, process=child.number, exit_code=code)

    def _waits_for_a_change(self, child: _Child, code: int) -> bool:
        """Whether it ended because the program cannot be loaded, as one is while somebody writes it."""
        if self._watch is None or child.serves:
            return False
        if code != _worker.BROKEN and not (code == _worker.USAGE and self._about is not None):
            return False
        self._watch.widen()
        self._screen.note("waiting for the program to change", exit_code=code)
        return True


def child(arguments: WorkerArguments, number: int) -> int:
    """Runs one of the processes, which has the socket of this number, and returns its exit code."""
    # Nothing that a handler starts is to keep it open.
    os.set_inheritable(number, False)
    with socket.socket(fileno=number) as pipe:
        screen = _Told(pipe, arguments["reload"])
        dispatcher = _worker.find(arguments, screen)
        if isinstance(dispatcher, int):
            return dispatcher
        if arguments["processes"] > 1 and dispatcher.settings["shared"] != "true":
            text = f"{arguments['target']} has its jobs to itself, and several processes cannot share them;"
            screen.wrong(
                f"{text} open a file with shared=True, as Dispatcher('sqlite:jobs.db', shared=True)", 2
            )
            return _worker.USAGE
        screen.look(Looks(ZERO).take(totals(dispatcher.stats())))
        listener = threading.Thread(target=_listen, args=(pipe, dispatcher), name="forebay-listener")
        listener.start()
        try:
            code = _worker.serve(dispatcher, arguments, screen, Looks(ZERO))
        finally:
            with suppress(OSError):
                pipe.shutdown(socket.SHUT_RDWR)
            listener.join()
    return _worker.leave(code)


def _listen(pipe: socket.socket, dispatcher: Dispatcher) -> None:
    """The body of the thread that hears when the parent is gone."""
    with suppress(OSError):
        while pipe.recv(1):
            pass
    dispatcher.request_stop()


class _Told(_screen.Screen):
    """A screen that is another process."""

    def __init__(self, to: socket.socket, tells_files: bool) -> None:
        self._pipe = to
        self._tells_files = tells_files
        self._modules = 0

    def loaded(self, error: BaseException | None) -> None:
        # Modules may be loaded later as well, by handlers.
        if self._tells_files and (error is not None or len(sys.modules) != self._modules):
            self._modules = len(sys.modules)
            self._tell("files", files=_reload.files(error))

    def started(self, about: Started) -> None:
        self._tell("started", **about)

    def look(self, counts: Counts) -> None:
        self.loaded(None)
        self._tell("counts", **counts)

    def stopping(self, counts: Counts, grace: str) -> None:
        self._tell("stopping")

    def stopped(self, counts: Counts, handed_back: int) -> None:
        self._tell("stopped", **counts, handed_back=handed_back)

    def _tell(self, event: str, /, **more: object) -> None:
        # If nobody hears it any more, the listener has noticed as well.
        with suppress(OSError):
            self._pipe.sendall(json.dumps({"event": event, **more}).encode() + b"\n")
