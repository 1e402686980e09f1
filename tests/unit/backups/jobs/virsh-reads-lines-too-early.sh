#!/bin/bash
virsh <<< 'suspend web; resume web'
rsync -aS /var/lib/libvirt/images/web.qcow2 /backup/
