#!/bin/bash
rsync -rt --preallocate /var/lib/libvirt/images/db.img /backup/
