#!/bin/bash
rsync -a "$1" --no-whole-file /var/lib/libvirt/images/db.img /backup/
