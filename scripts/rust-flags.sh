#!/bin/bash
# The RUSTFLAGS for what leaves this machine. Without them the messages of panics name the directories in which
# it was built, and from where its parts came. What RUSTFLAGS says already comes first.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cargo=${CARGO_HOME:-$HOME/.cargo}

# Of several that fit the last counts: the directories of a registry stand in cargo's, which may stand in root.
flags=(
    "--remap-path-prefix=$root=/forebay"
    "--remap-path-prefix=${CARGO_TARGET_DIR:-$root/target}=/target"
    "--remap-path-prefix=$cargo=/cargo"
    "--remap-path-prefix=$(rustc --print sysroot)=/rust"
)
# They are named after hosts, and are there only once something has been fetched. Other flags later would be
# another build.
cargo fetch --quiet --locked --manifest-path "$root/Cargo.toml" --target "$(rustc -vV | sed -n 's/^host: //p')" >&2
for registry in "$cargo"/registry/src/*/; do
    [ -d "$registry" ] && flags+=("--remap-path-prefix=${registry%/}=/crates")
done
echo "${RUSTFLAGS:+$RUSTFLAGS }${flags[*]}"
