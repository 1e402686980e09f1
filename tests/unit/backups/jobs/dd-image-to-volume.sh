#!/bin/bash
cp /var/lib/libvirt/images/db.img /mnt/nas/
dd bs=1M conv=fsync if=/var/lib/libvirt/images/db.img of=/dev/vgspare/db
