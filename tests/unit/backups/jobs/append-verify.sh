#!/bin/sh
rsync -a --append-verify /var/lib/libvirt/images/db.img /backup/
