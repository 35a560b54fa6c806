#!/bin/bash
# Looks at a wheel, and installs it into a bare environment of every interpreter there is:
# tests/install/wheel.sh WHEEL
#
# Each brings its own pip: an older one of another version of Python fails. Found are python3.11 and newer in the path
# and among those of pyenv. PY is the interpreter that unpacks.
set -euo pipefail
wheel=$(realpath "$1")
here=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
PY=$(realpath --no-symlinks "${PY:-.venv/bin/python}")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

die() {
    echo "wheel.sh: $1" >&2
    exit 1
}

# It fits since SQLite has lost what nobody here asks it for (.cargo/config.toml).
MOST=3000000
size=$(stat -c %s "$wheel")
((size <= MOST)) || die "$(basename "$wheel") has $size bytes, more than $MOST"

"$PY" -m zipfile -e "$wheel" "$scratch/content"
for file in forebay/py.typed forebay/_forebay.pyi forebay/_forebay.abi3.so; do
    [ -e "$scratch/content/$file" ] || die "$file is not in the wheel"
done
licences=$(find "$scratch"/content/forebay-*.dist-info/licenses -name 'LICENSE-*' | wc -l)
((licences == 2)) || die "there are $licences licence files in the wheel, not 2"
strange=$(cd "$scratch/content" && find . -type f ! -path './forebay/*' ! -path './_forebay_pytest/*' \
    ! -path './forebay-*.dist-info/*')
[ -z "$strange" ] || die "what is this in the wheel: $strange"

metadata=$(echo "$scratch"/content/forebay-*.dist-info/METADATA)
grep -q '^Description-Content-Type: text/markdown' "$metadata" && grep -q '^# Forebay' "$metadata" ||
    die "the wheel does not say what it is: the README is not in it"
! grep '^Requires-Dist' "$metadata" || die "the wheel requires other packages"

# What the platform tag promises is no older than what the module asks for.
needs=$(objdump -T "$scratch/content/forebay/_forebay.abi3.so" | grep -o 'GLIBC_[0-9.]*' | sort -Vu | tail -1)
case $wheel in
    *-cp311-abi3-manylinux_*) promised=GLIBC_$(sed 's/.*manylinux_\([0-9]*\)_\([0-9]*\)_.*/\1.\2/' <<<"$wheel") ;;
    *-cp311-abi3-linux_*) promised=$needs ;;
    *) die "the name of $wheel has another tag than cp311-abi3" ;;
esac
printf '%s\n%s\n' "$needs" "$promised" | sort -VC || die "it needs $needs and its name says $promised"
echo "$(basename "$wheel"): $size bytes, needs $needs"

# Where nothing of the repository is found. Each check says itself what it is to lead to: set -e looks at none that
# stands before a || or in a list of them.
there() {
    (cd "$scratch" && "$@")
}

tested=0
for python in $(compgen -c python3. | grep -E '^python3\.[0-9]+$' | sort -Vu) \
    "${PYENV_ROOT:-$HOME/.pyenv}"/versions/*/bin/python; do
    "$python" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
    version=$("$python" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])')
    [ ! -e "$scratch/$version" ] || continue
    "$python" -m venv "$scratch/$version"
    bin=$scratch/$version/bin
    "$bin/python" -m pip install --quiet --disable-pip-version-check --no-index --no-deps "$wheel"
    with="with Python $version"
    there "$bin/python" -I -W error "$here/smoke.py" || die "smoke.py fails $with"
    says=$(there "$bin/python" -c 'import forebay; print("forebay", forebay.__version__)') || die "no import $with"
    for command in "$bin/forebay" "$bin/python -m forebay"; do
        read -ra words <<<"$command"
        [ "$(there "${words[@]}" --version)" = "$says" ] || die "$command --version says something else $with"
        help=$(there "${words[@]}" --help) && grep -q '^  worker ' <<<"$help" || die "$command has no worker $with"
        help=$(there "${words[@]}" worker --help) && grep -q -- --processes <<<"$help" ||
            die "$command worker has no --processes $with"
    done
    tested=$((tested + 1))
done
((tested > 0)) || die "there is no Python 3.11 or newer to try it with"
echo "ok forebay wheel: $tested interpreters"
