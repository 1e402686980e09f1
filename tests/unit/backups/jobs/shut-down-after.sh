#!/bin/bash
cp /var/lib/libvirt/images/web.qcow2 /backup/
virsh shutdown web && virsh start web
