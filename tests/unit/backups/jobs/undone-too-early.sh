#!/bin/bash
virsh suspend web
sync
virsh resume web
cp --sparse=always /var/lib/libvirt/images/web.qcow2 /backup/
