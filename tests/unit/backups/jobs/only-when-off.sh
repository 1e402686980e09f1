#!/bin/bash
if [ "$(virsh domstate web)" = "shut off" ]; then
  cp /var/lib/libvirt/images/web.qcow2 /backup/
fi
