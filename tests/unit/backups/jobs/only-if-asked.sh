#!/bin/bash
if [ "$1" = --cold ]; then
  virsh shutdown web
fi
rsync -aS /var/lib/libvirt/images/web.qcow2 /backup/
