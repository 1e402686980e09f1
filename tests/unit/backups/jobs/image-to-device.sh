#!/bin/bash
rsync --write-devices --inplace /var/lib/libvirt/images/db.img /dev/vgspare/db
