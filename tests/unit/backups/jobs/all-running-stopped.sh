#!/bin/bash
for g in $(virsh list --name); do
  virsh shutdown $g
done
sleep 300
rsync -aS --delete /var/lib/libvirt/images/ nas:/pool/images/
for g in web shop; do virsh start $g; done
