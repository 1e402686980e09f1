#!/bin/bash
pkill -STOP -f guest=web
rsync -aS /var/lib/libvirt/images/web.qcow2 /backup/
pkill -CONT -f guest=web
