#!/bin/bash
rsync -rt --inplace --no-whole-file /var/lib/libvirt/images/db.img /backup/now/
