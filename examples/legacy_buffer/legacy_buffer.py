"""A buffer in front of something slow, as a legacy application puts before its mail gateway or its database.

    python legacy_buffer.py jobs.db written.log < requests.txt

Requests come by line and are answered at once, however far the gateway is behind:

    order 17    must not be lost. "202" means that it is on the disk; beyond 20 they wait in the file only.
    bulk 18     can be sent again by whoever sends it: is told "429" while orders wait.
    metric 19   is worth something while it is new: when 20 wait, the oldest one makes room.

SIGTERM stops it, and the next one goes on where it stopped; at the end of its input it finishes what there
is. Either way it says what has become of all it had. A request that was being written when the process was
killed is written once more, so whoever takes it must be able to hear of it twice: the id is there to tell.
"""

import os
import random
import sys
import threading
import time
from pathlib import Path

from forebay import ClosedError, Dispatcher, Job

d = Dispatcher(Path(sys.argv[1]), concurrency=4)
d.configure_queue("orders", capacity=20, on_full="spill")
d.configure_queue("metrics", capacity=20, on_full="drop_oldest")
written = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)


@d.handler(pass_job=True)
def write(job: Job, request: str) -> None:
    """The gateway: 5 to 50 ms per request, one after the other per thread, and no way to make it faster."""
    time.sleep(random.uniform(0.005, 0.05))
    os.write(written, f"{os.getpid()} {job.id} {request}\n".encode())


def accept(request: str) -> str:
    """What the front says to whoever sent this. It never waits for the gateway."""
    kind = request.split()[0]
    if kind == "bulk" and d.pressure("orders") >= 0.8:
        return f"429 {request}"
    queue = "metrics" if kind == "metric" else "orders"
    handle = write.options(queue=queue, priority=1 if kind == "order" else 0).push(request)
    return f"202 {request} {handle.id}"


def front() -> None:
    """Takes requests while there are any."""
    try:
        for line in sys.stdin:
            print(accept(line.strip()), flush=True)
        d.drain()
    except ClosedError:
        return  # somebody stops it; who asks now gets no answer and asks the next process
    d.request_stop()


def tell() -> None:
    """What has become of everything it found and accepted: nothing is unaccounted for."""
    for name in "metrics", "orders":
        queue = d.stats()["queues"][name]
        had, waiting = queue["pushed"] + queue["restored"], queue["queued"] + queue["scheduled"]
        parts = f"{queue['succeeded']} delivered + {queue['shed']} shed + {waiting} waiting"
        print(f"{name}: {had} accepted = {parts}", flush=True)


if __name__ == "__main__":
    threading.Thread(target=front, daemon=True).start()
    d.run()
    tell()
