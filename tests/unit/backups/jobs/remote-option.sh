#!/bin/sh
rsync -a -M--write-devices /var/lib/libvirt/images/db.img root@spare:/dev/vgspare/db
