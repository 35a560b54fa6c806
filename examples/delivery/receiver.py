#!/usr/bin/env python3
"""The other end of the delivery example: an HTTP receiver that fails the way real ones do.

It takes files by ``PUT /files/<url-encoded path>`` over HTTP/1.1 on a loopback port and

* refuses connections for the first two seconds: the port is bound, so that nobody else can take it, but
  nothing listens, and the kernel answers every attempt with a reset;
* answers 503 with ``Retry-After`` to a fifth of the requests;
* resets some connections in the middle of the body;
* stores some files and then resets the connection instead of answering, the case every sender has to
  guess about: sending again is right, and makes a duplicate;
* stalls some requests for longer than a client waits.

What happens to a request is drawn from the seed, the path and how often that path was asked for, so a run
can be repeated however its connections interleave.

A *delivery* is a body that arrived whole and was recorded, whether or not the sender heard of it. The
report (``GET /report``, and at SIGTERM) gives for every file the SHA-256 of what was received and the
number of deliveries. It cannot give the number of refused connections: the kernel refuses them without
telling the process. The sender, which sees them, has to count those.

Standard library only. The first line on standard output is ``port N``, before anything listens; the second
is ``listening``, when it does.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import enum
import hashlib
import json
import os
import random
import signal
import socket
import struct
import sys
import tempfile
import urllib.parse
from collections.abc import Mapping
from pathlib import Path

MAX_HEAD_BYTES = 16 * 1024
MAX_BODY_BYTES = 64 * 1024 * 1024
CHUNK_BYTES = 64 * 1024
ONCE_ONLY = {"content-length", "transfer-encoding", "x-job-id", "x-sha256"}

REASONS = {
    200: "OK",
    201: "Created",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    411: "Length Required",
    413: "Content Too Large",
    422: "Unprocessable Content",
    503: "Service Unavailable",
}


class Fate(enum.Enum):
    """What becomes of one request."""

    DELIVERED = "delivered"
    UNAVAILABLE = "unavailable"
    RESET = "reset"
    LOST_REPLY = "lost_reply"
    STALLED = "stalled"


@dataclasses.dataclass(frozen=True)
class Faults:
    """How badly the receiver behaves: the share of requests that meets each fate, and the times involved."""

    seed: int = 1
    refuse_for: float = 2.0
    unavailable: float = 0.20
    reset: float = 0.02
    lost_reply: float = 0.01
    stall: float = 0.01
    stall_for: float = 30.0
    retry_after: int = 1

    def fate(self, path: str, asked_before: int) -> Fate:
        """Draws the fate of a request for ``path`` after ``asked_before`` earlier ones.

        A function of its arguments alone: the order in which concurrent requests happen to arrive does not
        change what each of them meets.
        """
        draw = random.Random(f"{self.seed}/{asked_before}/{path}").random()
        for share, fate in (
            (self.unavailable, Fate.UNAVAILABLE),
            (self.reset, Fate.RESET),
            (self.lost_reply, Fate.LOST_REPLY),
            (self.stall, Fate.STALLED),
        ):
            if draw < share:
                return fate
            draw -= share
        return Fate.DELIVERED


@dataclasses.dataclass
class File:
    """What the receiver holds of one path."""

    sha256: str
    size: int
    deliveries: int = 0
    changed: int = 0
    """Deliveries whose bytes differed from the delivery before: never anything but 0 with a sound sender."""
    jobs: list[str] = dataclasses.field(default_factory=list)
    """The distinct ``X-Job-Id`` values: more than one means that two jobs carried the same file."""


@dataclasses.dataclass
class Ledger:
    """Everything the receiver has seen."""

    files: dict[str, File] = dataclasses.field(default_factory=dict)
    counts: dict[str, int] = dataclasses.field(
        default_factory=lambda: dict.fromkeys(
            ("connections", "requests", *(fate.value for fate in Fate), "broken_off", "rejected"), 0
        )
    )
    asked: dict[str, int] = dataclasses.field(default_factory=dict)

    def count(self, what: str) -> None:
        """Counts one more of ``what``."""
        self.counts[what] += 1

    def ask(self, path: str) -> int:
        """Notes a request for ``path`` and says how many came before it."""
        before = self.asked.get(path, 0)
        self.asked[path] = before + 1
        return before

    def deliver(self, path: str, sha256: str, size: int, job: str | None) -> None:
        """Records a body that arrived whole."""
        file = self.files.setdefault(path, File(sha256, size))
        if file.sha256 != sha256:
            file.changed += 1
            file.sha256, file.size = sha256, size
        file.deliveries += 1
        if job is not None and job not in file.jobs:
            file.jobs.append(job)

    def report(self, faults: Faults) -> dict[str, object]:
        """The whole story as one JSON-ready value."""
        return {
            "files": {path: dataclasses.asdict(file) for path, file in sorted(self.files.items())},
            "counts": {
                **self.counts,
                "duplicates": sum(file.deliveries - 1 for file in self.files.values()),
            },
            "faults": dataclasses.asdict(faults),
        }


class Rejected(Exception):
    """A request that is answered with an error because it is wrong, not because a fault was drawn."""

    def __init__(self, status: int, why: str) -> None:
        """Takes the status to answer with and a sentence for whoever reads the answer."""
        super().__init__(why)
        self.status = status


@dataclasses.dataclass(frozen=True)
class Head:
    """A parsed request line with its headers; header names are in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]

    @property
    def length(self) -> int | None:
        """The announced size of the body, or None when none was announced."""
        text = self.headers.get("content-length")
        if "transfer-encoding" in self.headers:
            raise Rejected(411, "send Content-Length: chunked bodies are not taken")
        if text is None:
            return None
        # int() alone would take "+5", "1_000" and other scripts' digits.
        if not (text.isascii() and text.isdigit()):
            raise Rejected(400, f"not a Content-Length: {text!r}")
        length = int(text)
        if length > MAX_BODY_BYTES:
            raise Rejected(413, f"a body of {length} bytes is over the limit of {MAX_BODY_BYTES}")
        return length


def parse_head(raw: bytes) -> Head:
    """Parses everything up to and including the empty line that ends the headers."""
    request_line, *lines = raw.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    try:
        method, target, version = request_line.split(" ")
    except ValueError:
        raise Rejected(400, f"not a request line: {request_line!r}") from None
    if version != "HTTP/1.1":
        raise Rejected(400, f"speak HTTP/1.1, not {version!r}")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise Rejected(400, f"not a header: {line!r}")
        name = name.lower()
        # Two different lengths are how one request gets smuggled inside another.
        if name in headers and name in ONCE_ONLY:
            raise Rejected(400, f"header {name!r} was sent twice")
        headers[name] = value.strip()
    return Head(method, target, headers)


def file_path(target: str) -> str:
    """The path a file is recorded under, from the target of its request."""
    prefix = "/files/"
    if not target.startswith(prefix) or len(target) == len(prefix):
        raise Rejected(404, f"nothing here: {target!r}; files go to {prefix}<url-encoded path>")
    try:
        return urllib.parse.unquote(target.removeprefix(prefix), errors="strict")
    except UnicodeDecodeError:
        raise Rejected(400, f"the path is not URL-encoded UTF-8: {target!r}") from None


class Receiver:
    """Serves connections with one set of faults, into one ledger."""

    def __init__(self, faults: Faults) -> None:
        """Starts with an empty ledger."""
        self.faults = faults
        self.ledger = Ledger()
        self._connections: set[asyncio.Task[None]] = set()

    async def run(self, sock: socket.socket, stop: asyncio.Event) -> None:
        """Refuses, then listens on the bound ``sock``, until ``stop`` is set."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), self.faults.refuse_for)
        if stop.is_set():
            return
        server = await asyncio.start_server(self._connected, sock=sock, limit=MAX_HEAD_BYTES, backlog=1024)
        print("listening", flush=True)
        await stop.wait()
        server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.ledger.count("connections")
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            while await self._request(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            # The sender went away in mid-request. One that gives up on a stalled request does not end
            # here: `_stall` has counted it.
            self.ledger.count("broken_off")
        except asyncio.CancelledError:
            # The receiver is stopping. Swallowed, because the task ends right here.
            pass
        finally:
            self._connections.discard(task)
            writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Serves one request; False when the connection is not to be used again."""
        try:
            raw = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as end:
            if end.partial:
                raise
            return False
        except asyncio.LimitOverrunError:
            self.ledger.count("rejected")
            await answer(writer, 400, {"error": f"headers over {MAX_HEAD_BYTES} bytes"}, close=True)
            return False
        try:
            head = parse_head(raw)
            if head.headers.get("expect", "").lower() == "100-continue":
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            if (head.method, head.target, head.length or 0) == ("GET", "/report", 0):
                await answer(writer, 200, self.ledger.report(self.faults))
                return True
            path = file_path(head.target)
            if head.method != "PUT":
                raise Rejected(405, f"{head.method} is not taken here, PUT is")
            length = head.length
            if length is None:
                raise Rejected(411, "send Content-Length")
            return await self._put(reader, writer, head, path, length)
        except Rejected as error:
            self.ledger.count("rejected")
            # Where the next request starts is unknown once a request made no sense: close.
            await answer(writer, error.status, {"error": str(error)}, close=True)
            return False

    async def _put(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: Head, path: str, length: int
    ) -> bool:
        self.ledger.count("requests")
        fate = self.faults.fate(path, self.ledger.ask(path))
        match fate:
            case Fate.STALLED:
                self.ledger.count(fate.value)
                await self._stall(reader)
                reset(writer)
                return False
            case Fate.RESET:
                await read_body(reader, length // 2)
                self.ledger.count(fate.value)
                reset(writer)
                return False
            case Fate.UNAVAILABLE:
                # The body is read all the same: a close with bytes unread would be a reset to the sender.
                await read_body(reader, length)
                self.ledger.count(fate.value)
                retry_after = {"Retry-After": str(self.faults.retry_after)}
                await answer(writer, 503, {"error": "come back later"}, headers=retry_after)
                return True
            case Fate.DELIVERED | Fate.LOST_REPLY:
                sha256 = await read_body(reader, length)
                announced = head.headers.get("x-sha256")
                if announced is not None and announced.lower() != sha256:
                    raise Rejected(422, f"the body has SHA-256 {sha256}, not {announced}")
                self.ledger.deliver(path, sha256, length, head.headers.get("x-job-id"))
                self.ledger.count(fate.value)
                if fate is Fate.LOST_REPLY:
                    reset(writer)
                    return False
                await answer(writer, 201, {"sha256": sha256})
                return True

    async def _stall(self, reader: asyncio.StreamReader) -> None:
        """Says nothing until the sender gives up or the stall is over.

        What arrives meanwhile is thrown away, so this is no delivery; reading it is how the sender's giving
        up is noticed, and the stalled connection then frees its task at once.
        """
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(self.faults.stall_for):
                while await reader.read(CHUNK_BYTES):
                    pass


async def read_body(reader: asyncio.StreamReader, length: int) -> str:
    """Reads exactly ``length`` bytes and gives their SHA-256; the bytes themselves are not kept."""
    digest = hashlib.sha256()
    while length > 0:
        chunk = await reader.readexactly(min(length, CHUNK_BYTES))
        digest.update(chunk)
        length -= len(chunk)
    return digest.hexdigest()


async def answer(
    writer: asyncio.StreamWriter,
    status: int,
    body: Mapping[str, object],
    headers: Mapping[str, str] | None = None,
    *,
    close: bool = False,
) -> None:
    """Sends a response with a JSON body."""
    payload = json.dumps(body).encode() + b"\n"
    fields = {
        "Content-Type": "application/json",
        "Content-Length": str(len(payload)),
        "Connection": "close" if close else "keep-alive",
        **(headers or {}),
    }
    lines = [f"HTTP/1.1 {status} {REASONS[status]}", *(f"{name}: {value}" for name, value in fields.items())]
    # One write: two would wait for each other under Nagle's algorithm and delayed acknowledgement.
    writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + payload)
    await writer.drain()


def reset(writer: asyncio.StreamWriter) -> None:
    """Ends the connection with a TCP reset instead of an orderly close."""
    # Lingering for zero seconds makes close() throw the connection away, which the peer sees as a reset.
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def reserve(host: str, port: int) -> socket.socket:
    """Binds a port without listening: it is ours from now on, and refuses connections until it listens."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if port != 0:
            # A named port may have connections of an earlier run in TIME_WAIT. For a port of the kernel's
            # choice the option would be wrong: it lets another process bind the same unlistened port.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def write_report(report: Mapping[str, object], file: Path | None) -> None:
    """Writes the report to ``file``, whole or not at all, or as one line to standard output."""
    text = json.dumps(report)
    if file is None:
        print(text, flush=True)
        return
    with tempfile.NamedTemporaryFile("w", dir=file.parent, prefix=file.name, delete=False) as aside:
        aside.write(text + "\n")
    os.replace(aside.name, file)


def share(text: str) -> float:
    """Parses a share of the requests, for argparse."""
    value = float(text)
    if not 0.0 <= value <= 1.0:
        raise argparse.ArgumentTypeError(f"a share lies between 0 and 1, not at {text}")
    return value


def seconds(text: str) -> float:
    """Parses a length of time in seconds, for argparse."""
    value = float(text)
    if not 0.0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"a time is zero or more seconds, not {text}")
    return value


def whole_seconds(text: str) -> int:
    """Parses a Retry-After value, for argparse: the header knows no fractions."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"a time is zero or more seconds, not {text}")
    return value


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    """Parses the command line; the defaults are those of ``Faults``."""
    defaults = Faults()
    parser = argparse.ArgumentParser(
        description="An HTTP receiver that fails the way real ones do, and counts what it got.",
        epilog="Files go to PUT /files/<url-encoded path>, the report comes from GET /report and at SIGTERM.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to bind")
    parser.add_argument("--port", type=int, default=0, help="port to bind, 0 for any free one")
    parser.add_argument("--report", type=Path, help="file for the final report, instead of standard output")
    parser.add_argument("--seed", type=int, default=defaults.seed, help="seed of everything random")
    parser.add_argument(
        "--refuse-for", type=seconds, default=defaults.refuse_for, help="seconds before anything listens"
    )
    parser.add_argument(
        "--unavailable", type=share, default=defaults.unavailable, help="share of requests answered 503"
    )
    parser.add_argument(
        "--reset",
        type=share,
        default=defaults.reset,
        help="share of requests reset in the middle of the body",
    )
    parser.add_argument(
        "--lost-reply",
        type=share,
        default=defaults.lost_reply,
        help="share stored, then reset without an answer",
    )
    parser.add_argument(
        "--stall", type=share, default=defaults.stall, help="share of requests never answered"
    )
    parser.add_argument(
        "--stall-for",
        type=seconds,
        default=defaults.stall_for,
        help="seconds after which a stall is broken off",
    )
    parser.add_argument(
        "--retry-after", type=whole_seconds, default=defaults.retry_after, help="seconds asked for by a 503"
    )
    arguments = parser.parse_args(argv)
    if arguments.unavailable + arguments.reset + arguments.lost_reply + arguments.stall > 1.0:
        parser.error("the shares of --unavailable, --reset, --lost-reply and --stall add up to more than 1")
    return arguments


async def serve(faults: Faults, sock: socket.socket) -> dict[str, object]:
    """Runs a receiver until SIGTERM or SIGINT and gives its report."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    # Only now: whoever reads the port may send the signal at once.
    print(f"port {sock.getsockname()[1]}", flush=True)
    receiver = Receiver(faults)
    await receiver.run(sock, stop)
    return receiver.ledger.report(faults)


def main(argv: list[str]) -> int:
    """Reserves the port, serves, reports."""
    arguments = parse_arguments(argv)
    names = [field.name for field in dataclasses.fields(Faults)]
    faults = Faults(**{name: getattr(arguments, name) for name in names})
    with reserve(arguments.host, arguments.port) as sock:
        report = asyncio.run(serve(faults, sock))
    write_report(report, arguments.report)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
