#!/bin/bash
cp -u /var/lib/libvirt/images/web.qcow2 /backup/
virsh suspend web
cp -u /var/lib/libvirt/images/web.qcow2 /backup/
virsh resume web
