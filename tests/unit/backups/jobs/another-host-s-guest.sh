#!/bin/bash
virsh -c qemu+ssh://root@kvm2/system shutdown web
rsync -aS /var/lib/libvirt/images/web.qcow2 /backup/
