#!/bin/bash
opts="-a --delete"
opts="$opts --numeric-ids"
rsync $opts /var/lib/libvirt/images/db.img /backup/
