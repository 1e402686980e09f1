#!/bin/bash
rsync -rtS --preallocate /var/lib/libvirt/images/db.img /backup/
