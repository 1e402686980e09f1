#!/bin/bash
ln /var/lib/libvirt/images/web.qcow2 /var/lib/libvirt/staged.qcow2
rsync -aS /var/lib/libvirt/staged.qcow2 /backup/
