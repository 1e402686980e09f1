#!/bin/bash
qemu-img convert -p -O raw -o preallocation=falloc /var/lib/libvirt/images/db.img /backup/db.img
