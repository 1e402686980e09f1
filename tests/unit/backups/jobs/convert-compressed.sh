#!/bin/bash
virsh shutdown web
qemu-img convert -c -O qcow2 /var/lib/libvirt/images/web.qcow2 /backup/web.qcow2
virsh start web
