#!/bin/bash
qemu-img convert --force-share -O qcow2 /var/lib/libvirt/images/web.qcow2 /backup/web.qcow2
