#!/bin/bash
src=/var/lib/libvirt/images snap=/var/lib/libvirt/snap
btrfs subvolume snapshot -r $src $snap/today
rsync -aS $snap/today/ /backup/images/
btrfs subvolume delete $snap/today
