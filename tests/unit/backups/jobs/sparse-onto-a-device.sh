#!/bin/sh
rsync --sparse --write-devices /var/lib/libvirt/images/db.img /dev/vgbackup/db
