#!/usr/bin/env bash
# Every test. Those on real guests run beside the others: a guest without KVM keeps one core busy, and most of the
# others need one, or wait. What the guests' tests print comes at the end.
set -euo pipefail
cd "$(dirname "$0")/.."

python=.venv/bin/python
options=(-rs --no-fold-skipped)
# these need no network namespaces and no browser: they run on every core
side_by_side=(tests/unit tests/driver tests/fuzz tests/faults)

scratch=$(mktemp -d)
mkdir "$scratch/bundles"
export BUNDLES_OF_TESTS="$scratch/bundles" # one bundle for all tests of this run
said="$scratch/guests"

"$python" -m pytest tests/guest "${options[@]}" >"$said" 2>&1 &
guests=$!
end() {
    kill -INT "$guests" 2>/dev/null || true # pytest ends its guests
    wait "$guests" 2>/dev/null || true
    cat "$said"
    rm -rf "$scratch"
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

status=0
"$python" -m pytest "${side_by_side[@]}" -n auto "${options[@]}" || status=1
"$python" -m pytest tests/ "${side_by_side[@]/#/--ignore=}" --ignore=tests/guest "${options[@]}" || status=1
echo "test: waiting for the tests on real guests"
wait "$guests" || status=1
exit "$status"
