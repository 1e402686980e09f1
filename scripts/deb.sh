#!/usr/bin/env bash
# `make deb`: the Debian package of reclaim for the Debian that this machine has. pip fetches the wheels that go into it,
# unless RECLAIM_WHEELS names a folder of them (make wheels).
#   deb.sh [FOLDER]    dist/ if none is named
set -euo pipefail
cd "$(dirname "$0")/.."

folder=$(realpath -m "${1:-dist}")
fail() {
    echo "deb: $*" >&2
    exit 1
}

command -v dpkg-checkbuilddeps >/dev/null ||
    fail "dpkg-dev is missing: as root, run apt-get install --no-install-recommends dpkg-dev, then this again"
if ! unmet=$(dpkg-checkbuilddeps 2>&1); then
    unmet=${unmet##*: }
    fail "packages are missing: as root, run apt-get install --no-install-recommends" \
        "$(sed 's/ *([^)]*)//g; s/debhelper-compat/debhelper/; s/dh-sequence-python3 *//' <<<"$unmet"), then this again"
fi
[ -z "${RECLAIM_WHEELS:-}" ] || RECLAIM_WHEELS=$(realpath "$RECLAIM_WHEELS")
export RECLAIM_WHEELS
mkdir -p "$folder"
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
# a build leaves its own files beside what it is made from, and the package above it
source="$place/reclaim"
mkdir "$source" "$source/docs"
cp -r pyproject.toml setup.py README.md CHANGELOG.md SECURITY.md LICENSE conftest.py reclaim checks fixers debian "$source"
cp docs/*.md docs/reclaim.1 "$source/docs"
find "$source" -name __pycache__ -prune -exec rm -r {} +
cd "$source"
if ! dpkg-buildpackage -us -uc -b >"$place/log" 2>&1; then
    tail -n 40 "$place/log" >&2
    fail "dpkg-buildpackage failed"
fi
for package in "$place"/reclaim_*.deb; do
    install -m 644 "$package" "$folder"
    package=$folder/$(basename "$package")
    echo "deb: $package; as root, on a machine with the same Debian: apt install $package"
done
