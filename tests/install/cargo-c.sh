#!/bin/bash
# What cargo-c installs is what `make install` does, by name: cargo-c.sh CARGO-CINSTALL OUT
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

cinstall=$1 out=$2
prefix=$out/prefix
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
soname=libforebay.so.${version%.*}

rm -rf "$out" && mkdir -p "$out"
"$cinstall" cinstall --release --locked --manifest-path cbind/Cargo.toml --prefix="$prefix" --libdir=lib

diff <(cd cbind/include && find . -type f | sort) <(cd "$prefix/include" && find . -type f | sort)
for name in libforebay.so "$soname" "libforebay.so.$version" libforebay.a pkgconfig/forebay.pc; do
    test -e "$prefix/lib/$name" || { echo "cargo-c installs no $name"; exit 1; }
done
readelf -d "$prefix/lib/libforebay.so" > "$out/dynamic.txt"
grep -F "soname: [$soname]" "$out/dynamic.txt"
grep 'NODELETE' "$out/dynamic.txt"
diff cbind/symbols.txt <(nm -D --defined-only --format=posix "$prefix/lib/libforebay.so" | cut -d' ' -f1 | LC_ALL=C sort)

export PKG_CONFIG_PATH=$prefix/lib/pkgconfig
test "$(pkg-config --modversion forebay)" = "$version"
read -ra shared < <(pkg-config --cflags --libs forebay)
read -ra static < <(pkg-config --static --cflags --libs forebay | sed 's/-lforebay/-l:libforebay.a/')
"${CC:-cc}" examples/c/hello.c "${shared[@]}" -o "$out/shared"
"${CC:-cc}" examples/c/hello.c "${static[@]}" -o "$out/static"
test "$(LD_LIBRARY_PATH=$prefix/lib "$out/shared")" = 'hello world'
test "$("$out/static")" = 'hello world'
if readelf -d "$out/static" | grep -F libforebay; then exit 1; fi
rm -r "$out"
echo "cargo-c: 1 test passed"
