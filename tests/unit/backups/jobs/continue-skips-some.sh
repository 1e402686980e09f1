#!/bin/bash
for g in $(virsh list --name); do
  case $g in web) continue;; esac
  virsh shutdown $g
done
rsync -aS /var/lib/libvirt/images/ /backup/
