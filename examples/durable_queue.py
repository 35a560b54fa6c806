"""A queue in front of something slow, which loses nothing: kill it at any moment, and start it again.

    python durable_queue.py jobs.db < orders.txt

Orders come by line; SIGTERM or Ctrl-C stops it. Once "accepted" is printed the order is on the disk, and is
delivered by this process or, if that dies, by the next one that opens the file. An order that was being
delivered when the process died is delivered once more, so whoever takes it must be able to hear of it twice:
the key is there to tell.
"""

import logging
import sys
from pathlib import Path

from forebay import Dispatcher

logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stdout)
d = Dispatcher(Path(sys.argv[1]), concurrency=4, retry="exponential(1s, cap=5m, jitter=0.1)")


@d.handler(max_attempts=8, timeout=30)
def deliver(order: str) -> None:
    """What is slow, or fails now and then: an HTTP call, a printer, a database on the other side."""
    logging.info("delivered %s", order)


def accept(order: str) -> None:
    """Returns when the order can no longer be lost. The same order again is no second one."""
    deliver.options(key=order, durability="disk").push(order)
    logging.info("accepted %s", order)


def main() -> None:
    """Takes orders while there are any, and delivers until it is told to stop."""
    d.start()
    for line in sys.stdin:
        accept(line.strip())
    d.run()


if __name__ == "__main__":
    main()
