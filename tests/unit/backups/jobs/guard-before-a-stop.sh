#!/bin/bash
stop() {
  virsh domstate "$1" | grep -q running || return 0
  virsh shutdown "$1"
}
stop web
cp /var/lib/libvirt/images/web.qcow2 /backup/
virsh start web
