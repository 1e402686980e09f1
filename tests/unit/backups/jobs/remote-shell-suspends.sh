#!/bin/bash
ssh kvm1 virsh suspend web
cp --sparse=always /var/lib/libvirt/images/web.qcow2 /backup/
