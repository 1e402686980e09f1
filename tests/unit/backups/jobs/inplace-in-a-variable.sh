#!/bin/bash
how="-rt --inplace --no-whole-file"
rsync $how /var/lib/libvirt/images/db.img /backup/
