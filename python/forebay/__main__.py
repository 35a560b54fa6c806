"""The command `forebay`: looks at the jobs of a file and takes care of them, or runs those of a program.

docs/cli.md tells how.
"""

from __future__ import annotations

import signal
import sys

from forebay import _forebay


def main() -> int:
    """Runs the command with the arguments of this process."""
    # While native code runs nobody would look for a Ctrl-C; the command has nothing to clean up after one.
    former = signal.signal(signal.SIGINT, signal.SIG_DFL)
    answer = _forebay.cli_or_worker(["forebay", *sys.argv[1:]])
    if isinstance(answer, int):
        return answer
    signal.signal(signal.SIGINT, former)
    from forebay import _worker

    return _worker.main(answer)


if __name__ == "__main__":
    sys.exit(main())
