#!/bin/sh
# Prints the path of the first Python >= 3.11 of this machine; PYTHON=... names one to use instead.
set -eu

for candidate in ${PYTHON:-python3 python3.11 python3.12 python3.13 python3.14 python3.15}; do
    # Run it rather than trust its name: a version manager's shim exists for versions that do not run.
    "$candidate" -c '
import sys
if sys.version_info < (3, 11):
    sys.exit(1)
print(sys.executable)' 2>/dev/null && exit 0
done

echo "no Python >= 3.11 found${PYTHON:+ (PYTHON=$PYTHON)}; on Debian 12 or newer: apt-get install -y python3 python3-venv" >&2
exit 1
