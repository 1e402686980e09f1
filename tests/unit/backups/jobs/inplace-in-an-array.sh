#!/bin/bash
how=(-rt --inplace)
rsync "${how[@]}" /var/lib/libvirt/images/db.img /backup/
