#!/bin/bash
virsh snapshot-create-as web before
rsync -rtS /var/lib/libvirt/images/web.qcow2 /backup/
