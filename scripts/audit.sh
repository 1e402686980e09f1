#!/usr/bin/env bash
# `make audit`: pytest checks/ on this machine's libvirt; on the sample definitions only if this machine has no libvirt.
# Arguments go to pytest. The exit status is pytest's, or 4 if libvirt is there and cannot be used. With RECLAIM_MAKE set
# every status but 0 is 1: make has no others that it does not comment.
set -euo pipefail
cd "$(dirname "$0")/.."
# make -q is for our Makefile alone
unset MAKEFLAGS MFLAGS

uri="qemu:///system"
samples="test://$PWD/lab/samples/fleet.xml"
# seconds in which a busy libvirtd has to answer
seconds=${RECLAIM_LIBVIRT_SECONDS:-30}

names_a_hypervisor() {
    local argument
    [ -z "${LIBVIRT_DEFAULT_URI:-}${VIRSH_DEFAULT_CONNECT_URI:-}" ] || return 0
    for argument in "$@"; do
        case $argument in --uri | --uri=* | --hosts | --hosts=*) return 0 ;; esac
    done
    return 1
}

# the mode, and the options that do more to a guest than judge it
mode() {
    local argument mode=audit more=""
    for argument in "$@"; do
        case $argument in
        --fix | --plan) mode=${argument#--} ;;
        --restart | --force | --boot-stopped | --prove | --definitions-only) more+=" $argument" ;;
        esac
    done
    echo "$mode$more"
}

has_socket() {
    [ -S /run/libvirt/libvirt-sock ] || [ -S /run/libvirt/virtqemud-sock ]
}

has_daemon() {
    local folder
    for folder in ${PATH//:/ } /usr/sbin /usr/local/sbin; do
        if [ -x "$folder/libvirtd" ] || [ -x "$folder/virtqemud" ]; then return 0; fi
    done
    return 1
}

# why this machine's libvirt cannot be used, or nothing
refusal() {
    local status=0
    timeout "$seconds" .venv/bin/python - "$uri" <<'PYTHON' || status=$?
import sys

import libvirt

libvirt.registerErrorHandler(lambda _context, _error: None, None)
try:
    libvirt.open(sys.argv[1]).close()
except libvirt.libvirtError as error:
    print(error.get_error_message())
PYTHON
    [ "$status" = 0 ] || echo "no answer in $seconds s"
}

# the step that makes libvirt answer
remedy() {
    if [ "$(id -u)" != 0 ] && ! id -nG | grep -qw libvirt; then
        echo "become a member of the group libvirt (as root: usermod -aG libvirt $(id -un); then log in again)," \
            "or run this as root"
    else
        echo "see to the daemon: systemctl status libvirtd virtqemud"
    fi
}

fail() {
    echo "audit: $*; no guest was looked at (make demo-audit shows the sample definitions)" >&2
    exit "${RECLAIM_MAKE:-4}"
}

arguments=("$@")
if names_a_hypervisor "$@"; then
    scripts/setup.sh audit
elif has_socket; then
    scripts/setup.sh audit
    reason=$(refusal)
    [ -z "$reason" ] || fail "this machine has libvirt, and $uri cannot be used ($reason): $(remedy)"
    echo "$(mode "$@"): this machine's guests ($uri)"
elif has_daemon; then
    fail "libvirt is installed on this machine, and does not run: systemctl start libvirtd (or virtqemud.socket)"
else
    echo "$(mode "$@"): no libvirt is installed on this machine: here are SAMPLE definitions (lab/samples/fleet.xml)," \
        "no guests of yours; for a hypervisor elsewhere: make audit ARGS=\"--hosts NAME\""
    scripts/setup.sh audit
    arguments=(--uri "$samples" "$@")
fi
if [ -n "${RECLAIM_MAKE:-}" ]; then
    # in one process, so that signals reach it
    exec .venv/bin/python -c '
import runpy, sys

try:
    runpy.run_module("pytest", run_name="__main__", alter_sys=True)
except SystemExit as end:
    sys.exit(bool(end.code))
' checks/ "${arguments[@]}"
fi
exec .venv/bin/python -m pytest checks/ "${arguments[@]}"
