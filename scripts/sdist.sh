#!/bin/bash
# Makes the source distribution of the Python package: scripts/sdist.sh FOLDER
#
# maturin takes out the members of the workspace that the package does not need, but leaves the lock file as it is,
# which `cargo --locked`, and so every build of the package, then refuses. So the lock file is made to fit here: it
# loses entries and gains none.
set -euo pipefail
root=$(dirname "$(realpath "${BASH_SOURCE[0]}")")/..
PY=$(realpath --no-symlinks "${PY:-$root/.venv/bin/python}")
mkdir -p "$1"
out=$(realpath "$1")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

die() {
    echo "sdist.sh: $1" >&2
    exit 1
}

(cd "$root" && "$PY" -m maturin sdist --out "$scratch" >"$scratch/log" 2>&1) || die "$(cat "$scratch/log")"
sdist=$(basename "$scratch"/*.tar.gz)
name=${sdist%.tar.gz}
tar xzf "$scratch/$sdist" -C "$scratch"

cd "$scratch/$name"
cp Cargo.lock ../Cargo.lock.before
# Looking at the workspace is enough to have the lock file fit it.
"${CARGO:-cargo}" metadata --format-version 1 >/dev/null
gained=$(diff ../Cargo.lock.before Cargo.lock | sed -n 's/^> //p' || true)
[ -z "$gained" ] || die "the lock file of the repository lacks: $gained"
"${CARGO:-cargo}" metadata --locked --format-version 1 >/dev/null

time=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct 2>/dev/null || date +%s)}
cd ..
rm -f "$out/$sdist"
tar --sort=name --mtime="@$time" --owner=0 --group=0 --numeric-owner --format=ustar -cf - "$name" | gzip -9n >"$out/$sdist"
echo "$out/$sdist"
