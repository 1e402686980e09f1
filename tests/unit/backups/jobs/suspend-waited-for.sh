#!/bin/bash
virsh suspend web &
wait
rsync -aS /var/lib/libvirt/images/web.qcow2 /backup/
virsh resume web
