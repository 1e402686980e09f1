#!/bin/bash
cp --reflink /var/lib/libvirt/images/web.qcow2 /var/lib/libvirt/images/.clone/
rsync -aS /var/lib/libvirt/images/.clone/ /backup/
