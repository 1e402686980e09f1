#!/bin/bash
btrfs subvolume snapshot -r /var/lib/libvirt/images /var/lib/libvirt/.still
rsync -aS /var/lib/libvirt/images/ /backup/
