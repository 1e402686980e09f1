#!/bin/bash
IMAGES=(web.qcow2 db.img)
for i in "${IMAGES[@]}"; do
  rsync -a /var/lib/libvirt/images/$i /backup/$i
done
