#!/bin/sh
virsh "suspend web; domblklist web"
cp /var/lib/libvirt/images/web.qcow2 /backup/
virsh resume web
