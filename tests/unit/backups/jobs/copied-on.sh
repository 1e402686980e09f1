#!/bin/sh
qemu-img convert -O raw /var/lib/libvirt/images/db.img /var/tmp/db.raw
scp /var/tmp/db.raw nas:/pool/
rm /var/tmp/db.raw
