#!/bin/bash
V="virsh -c qemu:///system"
$V managedsave web
rsync -aS /var/lib/libvirt/images/web.qcow2 /backup/
$V start web
