#!/bin/bash
for f in /var/lib/libvirt/images/*.img; do
  qemu-img convert -c -O qcow2 "$f" "/backup/$(basename "$f" .img).qcow2"
done
