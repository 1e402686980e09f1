#!/bin/bash
virsh suspend 5cdb3a4e-0000-4000-8000-000000000000
rsync -aS /var/lib/libvirt/images/web.qcow2 /backup/
