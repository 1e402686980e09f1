#!/bin/sh
rsync -an /var/lib/libvirt/images/db.img /backup/
rsync -a /var/lib/libvirt/images/db.img /backup/
