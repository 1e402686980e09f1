#!/bin/bash
export PATH=/opt/rsync-3.1/bin:/usr/bin:/bin
rsync -a --inplace --no-whole-file /var/lib/libvirt/images/db.img /backup/
