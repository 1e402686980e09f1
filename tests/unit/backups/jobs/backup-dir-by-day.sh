#!/bin/bash
host=$(hostname -s)
day=$(date +%a)
rsync -a --backup --backup-dir=/backup/$host/$day /var/lib/libvirt/images/db.img /backup/now/
