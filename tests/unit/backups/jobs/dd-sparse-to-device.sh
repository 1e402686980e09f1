#!/bin/sh
dd if=/var/lib/libvirt/images/db.img of=/dev/vgbackup/db bs=4M conv=sparse,fsync
