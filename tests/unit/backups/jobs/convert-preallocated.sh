#!/bin/bash
qemu-img convert -O qcow2 -o cluster_size=64k,preallocation=full /var/lib/libvirt/images/db.img /backup/db.qcow2
