#!/bin/bash
virsh snapshot-create web
cp /var/lib/libvirt/images/web.qcow2 /backup/
