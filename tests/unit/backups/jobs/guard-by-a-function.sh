#!/bin/bash
die() {
  logger "$1"
  exit 1
}
[[ $(virsh domstate web) == running ]] && die "it runs"
cp /var/lib/libvirt/images/web.qcow2 /backup/
