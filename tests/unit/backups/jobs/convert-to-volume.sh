#!/bin/bash
qemu-img convert -n -O raw /var/lib/libvirt/images/db.img /dev/vgspare/db
