#!/bin/bash
all=(rsync -a --inplace --no-whole-file)
rsync "${all[@]:1}" /var/lib/libvirt/images/db.img /backup/
