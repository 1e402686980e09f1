#!/bin/sh
virsh domfsfreeze web
cp --sparse=always /var/lib/libvirt/images/web.qcow2 /backup/
virsh domfsthaw web
