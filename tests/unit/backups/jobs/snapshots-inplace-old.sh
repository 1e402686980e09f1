#!/bin/sh
rsync -a --inplace --no-whole-file /var/lib/libvirt/images/db.img /backup/cur/
