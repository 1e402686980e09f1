#!/bin/bash
virsh suspend web
rsync -aS /var/lib/libvirt/images/db.img /backup/
scp /var/lib/libvirt/images/web.qcow2 nas:/pool/
for f in $(virsh domblklist web | awk '/images/{print $2}'); do rsync -a $f /mnt/; done
virsh vol-download --pool default web.qcow2 /mnt/web.qcow2
