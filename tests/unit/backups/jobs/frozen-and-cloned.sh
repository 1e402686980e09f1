#!/bin/bash
virsh domfsfreeze web
cp --reflink=always /var/lib/libvirt/images/web.qcow2 /var/lib/libvirt/images/.clone/web.qcow2
virsh domfsthaw web
rsync -aS /var/lib/libvirt/images/.clone/ /backup/
