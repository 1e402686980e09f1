#!/bin/bash
qemu-nbd --read-only --connect=/dev/nbd3 /var/lib/libvirt/images/web.qcow2
dd if=/dev/nbd3 of=/backup/web.raw bs=4M conv=sparse
qemu-nbd --disconnect /dev/nbd3
