#!/bin/bash
virsh shutdown db
rsync -aS /var/lib/libvirt/images/ /backup/
virsh start db
