#!/bin/sh
rsync -aS --preallocate --delete /var/lib/libvirt/images/db.img /backup/
