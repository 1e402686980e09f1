#!/bin/bash
virsh suspend 3
rsync -aS /var/lib/libvirt/images/web.qcow2 /backup/
virsh resume 3
