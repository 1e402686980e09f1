#!/bin/bash
ssh kvm1 <<'TEXT'
virsh suspend web
rsync -a /var/lib/libvirt/images/web.qcow2 /mnt/
TEXT
