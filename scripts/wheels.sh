#!/usr/bin/env bash
# `make wheels`: a folder from which reclaim is installed without a package index: its wheel, and those that it requires.
# libvirt's binding is not among them: it has to fit the libvirt of the machine, and comes from its distribution.
#   wheels.sh [FOLDER]    dist/ if none is named
# RECLAIM_WHEELS_PYTHON is a Python with pip that the wheels are for; the checkout's .venv if it is not set.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=$(realpath -m "${1:-dist}")
python=${RECLAIM_WHEELS_PYTHON:-}
if [ -z "$python" ]; then
    scripts/setup.sh audit
    python=.venv/bin/python
fi
mkdir -p "$folder"
source=$(mktemp -d)
trap 'rm -rf "$source"' EXIT
# a build leaves its own files beside what it is made from
cp -r pyproject.toml setup.py README.md LICENSE conftest.py reclaim checks fixers "$source"
mkdir "$source/docs" "$source/made"
cp docs/reclaim.1 "$source/docs"
pip() { "$python" -m pip --disable-pip-version-check --no-input "$@" </dev/null; }
pip wheel --quiet --no-deps --wheel-dir "$source/made" "$source"
# the markers of what it requires are judged by this Python
pip download --quiet --only-binary :all: --dest "$folder" "$source"/made/*.whl
echo "wheels: $folder; on a machine with the same Python and its libvirt binding:"
echo "    pipx install --python /usr/bin/python3 --system-site-packages --pip-args '--no-index --find-links $folder' reclaim"
echo "or  /usr/bin/python3 -m venv --system-site-packages /opt/reclaim && /opt/reclaim/bin/pip install --no-index --find-links $folder reclaim"
