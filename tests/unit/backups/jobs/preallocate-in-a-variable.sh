#!/bin/sh
HOW="-a --preallocate"
rsync $HOW /var/lib/libvirt/images/db.img /backup/
