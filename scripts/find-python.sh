#!/bin/sh
# Prints the path of the first Python >= 3.11 of this machine; PYTHON=... names one to use instead. With --all
# the paths of all of them, those of pyenv too: one of each version, with and without the GIL.
set -eu

versions='python3.11 python3.12 python3.13 python3.14 python3.15'
# Run it rather than trust its name: a version manager's shim exists for versions that do not run.
look() {
    "$1" -c '
import sys
if sys.version_info < (3, 11) or sys.implementation.name != "cpython":
    sys.exit(1)
print(sys.version_info[0], sys.version_info[1], sys.abiflags or "-", sys.executable)' 2>/dev/null
}

if [ "${1-}" = --all ]; then
    for candidate in python3 $versions python3.13t python3.14t python3.15t "${PYENV_ROOT:-$HOME/.pyenv}"/versions/*/bin/python3; do
        look "$candidate" || true
    done | LC_ALL=C sort -u -k1,3 | cut -d' ' -f4-
    exit 0
fi
for candidate in ${PYTHON:-python3 $versions}; do
    if found=$(look "$candidate"); then
        echo "$found" | cut -d' ' -f4-
        exit 0
    fi
done

echo "no Python >= 3.11 found${PYTHON:+ (PYTHON=$PYTHON)}; on Debian 12 or newer: apt-get install -y python3 python3-venv" >&2
exit 1
