#!/bin/bash
when=$(date)
rsync -a --backup --backup-dir=/backup/$when /var/lib/libvirt/images/db.img /backup/now/
