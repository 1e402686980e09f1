#!/bin/bash
[ -d /backup ] || exit 1
if ! virsh dominfo web >/dev/null; then
  exit 1
fi
cp /var/lib/libvirt/images/web.qcow2 /backup/
