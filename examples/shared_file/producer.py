"""Pushes lines into a file, for whoever works on it in whatever language, and prints what came back.

python producer.py 'sqlite:jobs.db?shared=true' < lines.txt
"""

import sys

from forebay import Dispatcher


def main() -> None:
    """Pushes every line at once, then waits for the answers in turn."""
    d = Dispatcher(sys.argv[1])
    # Bytes reach the worker as they are; anything else would reach it as JSON.
    handles = d.push_many([("shout", line.rstrip("\n").encode()) for line in sys.stdin])
    for handle in handles:
        print(handle.result(timeout="1m"))
    d.stop()


if __name__ == "__main__":
    main()
