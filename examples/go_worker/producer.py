"""Pushes texts into a file for the Go worker, and prints what came back.

python producer.py 'sqlite:jobs.db?shared=true' < texts.txt
"""

import sys

from forebay import Dispatcher


def main() -> None:
    """Pushes every line at once, then waits for the answers in turn."""
    d = Dispatcher(sys.argv[1])
    # A dict reaches the worker as JSON, and so does its answer come back.
    handles = d.push_many([("count_words", {"text": line.rstrip("\n")}) for line in sys.stdin])
    for handle in handles:
        count = handle.result(timeout="1m")
        print(count["words"], count["worker"])
    d.stop()


if __name__ == "__main__":
    main()
