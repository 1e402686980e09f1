#!/bin/bash
target=/backup/images
stop() {
  virsh shutdown "$1"
  until [ "$(virsh domstate "$1")" = "shut off" ]; do
    sleep 5
  done
}
start() { virsh start "$1"; }
copy() {
  local guest=$1 image=$2
  stop "$guest"
  rsync -a "$image" "$target/"
  start "$guest"
}
copy web /var/lib/libvirt/images/web.qcow2
copy db /var/lib/libvirt/images/db.img
