#!/bin/sh
# Ask every definition four questions: one virsh and one xmllint a guest.
#     sh bench/peers/definitions.sh URI
set -eu
uri=$1
disk='/domain/devices/disk[not(@device) or @device="disk"]'
virsh -c "$uri" list --all --name | while read -r name; do
    [ -n "$name" ] || continue
    printf '%s\t' "$name"
    virsh -c "$uri" dumpxml --inactive "$name" | xmllint --xpath "concat(
        'machine=', /domain/os/type/@machine,
        ' not-scsi=', count($disk[target/@bus != 'scsi']),
        ' no-unmap=', count($disk[not(driver/@discard = 'unmap')]),
        ' not-virtio-scsi=', count(/domain/devices/controller[@type='scsi' and not(@model='virtio-scsi')]))" -
done
