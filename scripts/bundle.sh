#!/usr/bin/env bash
# `make bundle`: one file from which reclaim is installed on hypervisors that have no package index, no pip and no venv:
# the wheels of `make wheels`, and pip's own. It is for one Python and one processor, and is made by that Python: another
# one would leave out what only that one requires. It is installed once before it is called done.
#   bundle.sh [FOLDER]    dist/ if none is named
# RECLAIM_PYTHON is the Python that it is for (/usr/bin/python3).
set -euo pipefail
cd "$(dirname "$0")/.."

folder=$(realpath -m "${1:-dist}")
python=${RECLAIM_PYTHON:-/usr/bin/python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() {
    echo "bundle: $*" >&2
    exit 1
}

tag=$("$python" -c 'import sys, sysconfig; print("cp%d%d-%s" % (*sys.version_info[:2], sysconfig.get_platform()))') ||
    fail "$python does not run: RECLAIM_PYTHON names another"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || fail "$python is too old: reclaim needs 3.10 or newer"
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' reclaim/__init__.py)
"$python" -m venv "$work/maker" || fail "$python has no venv with pip: install that of its distribution (python3-venv)"
wheels="$work/wheels"
RECLAIM_WHEELS_PYTHON="$work/maker/bin/python" scripts/wheels.sh "$wheels" >/dev/null
"$work/maker/bin/python" -m pip --disable-pip-version-check --no-input download --quiet --no-deps --only-binary :all: \
    --dest "$wheels" pip </dev/null

# as the hypervisor does it
"$python" -m venv --without-pip "$work/proof"
pip=$(echo "$wheels"/pip-*.whl)
PIP_CONFIG_FILE=/dev/null "$work/proof/bin/python" "$pip/pip" install --quiet --disable-pip-version-check \
    --no-index --find-links "$wheels" reclaim || fail "it cannot be installed: wheels are missing in it"
"$work/proof/bin/python" -c 'import reclaim.record.record, tree_sitter_bash, pytest_html, testinfra, lxml.etree, prometheus_client'

mkdir -p "$folder"
bundle="$folder/reclaim-bundle-$version-$tag.tar.gz"
tar -C "$work" --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -cf - wheels | gzip -n9 >"$bundle.new"
mv "$bundle.new" "$bundle"
echo "bundle: $bundle ($(find "$wheels" -name '*.whl' | wc -l) wheels, $(du -h "$bundle" | cut -f1)); installed once, and it works"
