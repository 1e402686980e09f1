#!/bin/bash
rsync -aS /var/lib/libvirt/images/web.qcow2 /backup/
if [ -n "$1" ]; then
  virsh suspend web
  rsync -aS /var/lib/libvirt/images/web.qcow2 /backup/
  virsh resume web
fi
