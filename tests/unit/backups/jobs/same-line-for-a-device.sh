#!/bin/bash
put() {
  rsync $3 "$1" "$2"
}
put /var/lib/libvirt/images/db.img /backup/db.img -a
put /var/lib/libvirt/images/db.img /dev/vgbackup/db "--write-devices"
