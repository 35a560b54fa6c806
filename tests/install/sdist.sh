#!/bin/bash
# Builds the package from its source distribution without a network, as a distributor does, and tries it:
# tests/install/sdist.sh FOLDER
#
# PY has maturin and pip. What is compiled stays in FOLDER, so that a second run is quick.
set -euo pipefail
here=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
root=$(realpath "$here/../..")
PY=$(realpath --no-symlinks "${PY:-.venv/bin/python}")
mkdir -p "$1"
work=$(realpath "$1")

die() {
    echo "sdist.sh: $1" >&2
    exit 1
}

rm -rf "$work/dist" "$work/source" "$work/venv" "$work/wheels"
sdist=$(PY=$PY "$root/scripts/sdist.sh" "$work/dist")
mkdir "$work/source"
tar xzf "$sdist" -C "$work/source" --strip-components 1

for file in LICENSE-MIT LICENSE-APACHE README.md Cargo.lock PKG-INFO .cargo/config.toml; do
    [ -s "$work/source/$file" ] || die "$file is not in the source distribution"
done
strange=$(cd "$work/source" && ls -d .[!.]* .cargo/* cbind tests benches docs examples scripts cli/tests 2>/dev/null |
    grep -vxF -e .cargo -e .cargo/config.toml || true)
[ -z "$strange" ] || die "what is this in the source distribution: $strange"

# Fetching is one thing, and the only one that may reach out.
(
    cd "$work/source"
    "${CARGO:-cargo}" vendor --quiet --locked --versioned-dirs vendor >>.cargo/config.toml
)

# Where a namespace without a network cannot be had, cargo and pip are told to do without one.
offline=(env CARGO_NET_OFFLINE=true PIP_NO_INDEX=1)
if unshare --map-root-user --net true 2>/dev/null; then
    offline=(unshare --map-root-user --net "${offline[@]}")
else
    echo "sdist.sh: no namespace without a network here; cargo and pip only promise to use none" >&2
fi
cd "$work/source"
CARGO_TARGET_DIR=$work/target PATH=$(dirname "$PY"):$PATH \
    "${offline[@]}" "$PY" -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir "$work/wheels" .
PY=$PY "${offline[@]}" "$here/wheel.sh" "$work"/wheels/*.whl
echo "ok forebay sdist: $(stat -c %s "$sdist") bytes"
