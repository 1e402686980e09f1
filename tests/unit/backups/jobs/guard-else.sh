#!/bin/bash
if virsh domstate web | grep -q 'shut off'; then
  :
else
  exit 1
fi
cp /var/lib/libvirt/images/web.qcow2 /backup/
