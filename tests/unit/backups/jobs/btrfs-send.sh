#!/bin/bash
btrfs subvolume snapshot -r /var/lib/libvirt/images /var/lib/libvirt/images/.today
btrfs send /var/lib/libvirt/images/.today | ssh nas btrfs receive /pool
