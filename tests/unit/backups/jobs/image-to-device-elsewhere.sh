#!/bin/bash
rsync -I --write-devices --no-whole-file /var/lib/libvirt/images/db.img root@spare:/dev/disk/by-id/scsi-db
