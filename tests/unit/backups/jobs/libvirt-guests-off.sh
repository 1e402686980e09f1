#!/bin/bash
systemctl stop libvirt-guests.service
rsync -aS /var/lib/libvirt/images/ /backup/
systemctl start libvirt-guests.service
