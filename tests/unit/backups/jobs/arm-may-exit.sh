#!/bin/bash
if [ "$(virsh domstate web)" = running ]; then
  virsh snapshot-create-as web nightly || exit 1
fi
cp /var/lib/libvirt/images/web.qcow2 /backup/
