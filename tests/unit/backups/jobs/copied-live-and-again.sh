#!/bin/bash
rsync -aS /var/lib/libvirt/images/web.qcow2 /backup/
virsh suspend web
rsync -aS /var/lib/libvirt/images/web.qcow2 /backup/
virsh resume web
