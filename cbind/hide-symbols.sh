#!/bin/bash
# Makes a static archive that keeps to itself: hide-symbols.sh ARCHIVE SYMBOLS OUT
#
# Cargo's archive has thousands of global symbols: Rust's run time, the library's own, SQLite. A program that
# links another Rust library, or a SQLite of its own, would have them twice. So what the functions listed in
# SYMBOLS need is linked into one object, and of its symbols only those stay global.
set -euo pipefail

archive=$1 symbols=$2 out=$3
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

mapfile -t undefined < <(sed 's/^/--undefined=/' "$symbols")
# --force-group-allocation: the pointer by which frames name rust_eh_personality stands in a group of which a
# link keeps one for the whole program. Ours must stay ours: the symbol that it points to is to be a local one.
"${LD:-ld}" -r --force-group-allocation "${undefined[@]}" "$archive" -o "$scratch/whole.o"
"${OBJCOPY:-objcopy}" --keep-global-symbols="$symbols" --strip-debug \
    --remove-section=.llvmbc --remove-section=.llvmcmd "$scratch/whole.o" "$scratch/forebay.o"
rm -f "$out"
"${AR:-ar}" rcsD "$out" "$scratch/forebay.o"
