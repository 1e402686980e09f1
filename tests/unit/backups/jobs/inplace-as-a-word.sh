#!/bin/bash
rsync -rt --inplace /var/lib/libvirt/images/db.img /backup/
