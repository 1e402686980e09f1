#!/usr/bin/env bash
# `make audit`: pytest checks/ on this machine's libvirt; where none answers, on the sample definitions.
# Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."

samples="test://$PWD/lab/samples/fleet.xml"
on_samples="the SAMPLE definitions in lab/samples/fleet.xml over libvirt's test driver, no guest of yours"

names_a_hypervisor() {
    local argument
    [ -z "${LIBVIRT_DEFAULT_URI:-}${VIRSH_DEFAULT_CONNECT_URI:-}" ] || return 0
    for argument in "$@"; do
        case $argument in --uri | --uri=* | --hosts | --hosts=*) return 0 ;; esac
    done
    return 1
}

has_libvirt() {
    [ -S /run/libvirt/libvirt-sock ] || [ -S /run/libvirt/virtqemud-sock ]
}

# why this machine's libvirt cannot be used, or nothing
refusal() {
    .venv/bin/python - <<'PYTHON'
import libvirt

libvirt.registerErrorHandler(lambda _context, _error: None, None)
try:
    libvirt.open("qemu:///system").close()
except libvirt.libvirtError as error:
    print(error.get_error_message())
PYTHON
}

arguments=("$@")
if names_a_hypervisor "$@"; then
    scripts/setup.sh audit
elif ! has_libvirt; then
    echo "audit: no libvirt on this machine: auditing $on_samples"
    scripts/setup.sh audit
    arguments=(--uri "$samples" "$@")
else
    scripts/setup.sh audit
    reason=$(refusal)
    if [ -n "$reason" ]; then
        hint=""
        [ "$(id -u)" = 0 ] || hint="; be root or in the group libvirt"
        echo "audit: libvirt does not answer at qemu:///system ($reason$hint): auditing $on_samples"
        arguments=(--uri "$samples" "$@")
    else
        echo "audit: this machine's guests (qemu:///system)"
    fi
fi
exec .venv/bin/python -m pytest checks/ "${arguments[@]}"
