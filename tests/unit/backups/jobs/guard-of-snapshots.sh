#!/bin/bash
if virsh snapshot-list web | grep -q nightly; then exit 1; fi
virsh snapshot-create-as web nightly
cp /var/lib/libvirt/images/web.qcow2 /backup/
