#!/bin/bash
# The programs of a page, each a block ```cpp with what it prints in the block ```text behind it: builds each of them
# with the command that is given, runs it and compares.
#
#   guide.sh PAGE DIRECTORY COMPILER FLAGS...
set -euo pipefail
page=$1 out=$2
shift 2

rm -rf "$out"
mkdir -p "$out"
awk -v out="$out/" '
    $0 == "```cpp" { file = out (++n) ".cpp" }
    $0 == "```text" { file = out n ".text" }
    /^```/ { inside = $0 != "```" && file != ""; if (!inside) file = ""; next }
    inside { print > file }
    END { print n }' "$page" >"$out/count"
count=$(cat "$out/count")
test "$count" -gt 0

# The flags stand behind the source, since libraries do.
build() {
    local compiler=$1 source=$2
    shift 2
    "$compiler" "$source" "$@" -o "${source%.cpp}"
}
export -f build
find "$out" -name '*.cpp' | sort | xargs -P 2 -I{} bash -c 'build "$1" {} "${@:2}"' build "$@"

for n in $(seq "$count"); do
    timeout 60 "$out/$n" >"$out/$n.out" || { echo "program $n of $page has failed" >&2; exit 1; }
    diff -u "$out/$n.text" "$out/$n.out" || { echo "program $n of $page prints something else" >&2; exit 1; }
done
echo "$count programs of $page"
