#!/usr/bin/env python3
"""The sending end of the delivery example: one job per file, delivered by HTTP, surviving a restart.

Each job is a path. The handler reads the file and PUTs it to the receiver; what the network does to it is
left to the queue: a refused or reset connection and a timeout are failed attempts with backoff, a 503 with
``Retry-After`` is an attempt that asks to run again exactly then.

SIGTERM stops it the way a deploy does: nothing new starts, running deliveries finish within the grace and
are recorded, and every unfinished job is in the dump file. Started again with the same dump file, it goes on
where it was. Progress is told in JSON lines on standard output.

With ``--store`` the queue is a file from the start: then the sender may be killed at any moment, and the next
one goes on with the same file. It ends when nothing is left to deliver.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import signal
import sys
import threading
import time
import urllib.parse
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from forebay import Dispatcher, Fatal, Job, Retry

# Shorter than the receiver's stalls, longer than any honest answer on loopback takes.
HTTP_TIMEOUT_S = 1.5

_say_lock = threading.Lock()


def say(**fact: Any) -> None:
    """Tells whoever started us one fact, as a line of JSON."""
    with _say_lock:
        sys.stdout.write(json.dumps(fact) + "\n")
        sys.stdout.flush()


def put(port: int, path: str, body: bytes, job_id: str) -> None:
    """Delivers one file, or raises: Retry for a 503, Fatal for a refusal, OSError for the network."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=HTTP_TIMEOUT_S)
    try:
        headers = {"X-Job-Id": job_id, "X-Sha256": hashlib.sha256(body).hexdigest()}
        connection.request("PUT", "/files/" + urllib.parse.quote(path, safe=""), body, headers)
        response = connection.getresponse()
        response.read()
    finally:
        connection.close()
    if response.status == 503:
        after = float(response.headers.get("Retry-After", "1"))
        raise Retry(after=after, reason="503 Service Unavailable")
    if response.status >= 500:
        raise OSError(f"the receiver answered {response.status} {response.reason}")
    if response.status >= 300:
        raise Fatal(f"the receiver answered {response.status} {response.reason}; sending again cannot help")


def python_sources(root: Path) -> list[str]:
    """The files to deliver: every Python source below ``root`` that is not somebody else's package."""
    below = (path.relative_to(root) for path in root.rglob("*.py") if path.is_file())
    return sorted(str(path) for path in below if not {"site-packages", "dist-packages"} & set(path.parts))


def opened(arguments: argparse.Namespace) -> Dispatcher:
    """The queue: in memory with a dump for the next process, or in a file."""
    options: dict[str, Any] = {
        "concurrency": arguments.concurrency,
        "max_attempts": "unlimited",
        "retry": "exponential(100ms, cap=1s, jitter=0.5)",
        "grace": arguments.grace,
    }
    if arguments.store:
        # A process that is killed on purpose says nothing against the jobs that ran in it.
        return Dispatcher(arguments.store, max_crashes=1_000_000, **options)
    return Dispatcher(dump_file=arguments.dump, **options)


def deliver_all(dispatcher: Dispatcher) -> None:
    """Waits until nothing is left, not even a job that waits for its next attempt."""
    while True:
        dispatcher.drain()
        if dispatcher.len() == 0:
            return
        time.sleep(0.05)


def main(argv: list[str] | None = None) -> int:
    """Delivers until SIGTERM, then dumps what is left; or, with a store, until nothing is left."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, required=True, help="folder whose Python sources are delivered")
    parser.add_argument("--port", type=int, required=True, help="port of the receiver on loopback")
    kept = parser.add_mutually_exclusive_group(required=True)
    kept.add_argument("--dump", type=Path, help="file that carries unfinished jobs across restarts")
    kept.add_argument("--store", help="URL of the durable queue, as sqlite:/var/lib/sender/jobs.db")
    parser.add_argument("--fill", action="store_true", help="push a job for every file before starting")
    parser.add_argument("--concurrency", type=int, default=16, help="deliveries at once (default 16)")
    parser.add_argument("--grace", type=float, default=5.0, help="seconds that a stop waits (default 5)")
    arguments = parser.parse_args(argv)

    dispatcher = opened(arguments)

    @dispatcher.handler(pass_job=True)
    def deliver(job: Job, path: str) -> None:
        try:
            put(arguments.port, path, (arguments.root / path).read_bytes(), str(job.id))
        except OSError as error:
            # The network: another attempt may do better. Anything else is a defect of ours and must not loop.
            if isinstance(error, ConnectionRefusedError):
                say(event="refused")
            raise
        except (Retry, Fatal):
            raise
        except Exception as error:
            raise Fatal(f"{type(error).__name__}: {error}") from error
        waited = datetime.now(UTC) - job.created
        say(event="delivered", path=path, attempt=job.attempt, waited=waited.total_seconds())

    restored = dispatcher.len()
    if arguments.fill:
        for path in python_sources(arguments.root):
            # The id is the path's own: after a kill the next one begins again, and no file is queued twice.
            deliver.options(id=uuid.uuid5(uuid.NAMESPACE_URL, path)).push(path)
    # Before anything is said: whoever hears it may ask for the end.
    signal.signal(signal.SIGTERM, lambda *_: dispatcher.request_stop())
    say(event="started", restored=restored, waiting=dispatcher.len())

    if arguments.store:
        dispatcher.start()
        deliver_all(dispatcher)
        dispatcher.stop()
    else:
        dispatcher.run()
    say(event="stopped", waiting=dispatcher.len())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
