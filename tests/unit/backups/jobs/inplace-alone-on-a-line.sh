#!/bin/bash
# over several lines
rsync -a \
--inplace \
  --delete \
  /var/lib/libvirt/images/db.img /backup/
