#!/bin/sh
RSYNC_PASSWORD=secret rsync -a /var/lib/libvirt/images/db.img rsync://backup@nas/vm/
