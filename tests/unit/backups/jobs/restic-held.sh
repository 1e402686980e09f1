#!/bin/sh
export RESTIC_REPOSITORY=/backup/restic
virsh snapshot-create-as web hold --disk-only --no-metadata
restic backup /var/lib/libvirt/images
virsh blockcommit web vda --active --pivot
