#!/bin/bash
virsh -c qemu:///system <<EOF
# hold it
suspend web
EOF
rsync -aS /var/lib/libvirt/images/web.qcow2 /backup/
virsh <<< 'resume web'
