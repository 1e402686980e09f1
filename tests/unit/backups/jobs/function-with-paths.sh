#!/bin/bash
copy() {
  rsync -a --delete "$1" "$2"
}
copy /var/lib/libvirt/images/ /backup/
copy /etc/ /backup/etc/
