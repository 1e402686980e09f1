#!/bin/bash
to=/mnt/usb
sudo rsync -aHK --no-o --delete \
--exclude=.* --exclude=test-*.qcow2 \
/var/lib/libvirt/images $to
