#!/bin/bash
virsh <<EOF
suspend $1
EOF
rsync -aS /var/lib/libvirt/images/web.qcow2 /backup/
