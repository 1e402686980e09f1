#!/bin/bash
mount --bind /var/lib/libvirt/images /mnt/images
rsync -aS /mnt/images/ /backup/
