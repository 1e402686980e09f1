#!/bin/bash
lvcreate -s -L5G -n s /dev/vg0/srv
mount /dev/vg0/s /mnt/s
rsync -a /mnt/s/vm/ /backup/
umount /mnt/s
