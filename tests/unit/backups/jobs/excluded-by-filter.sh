#!/bin/sh
rsync -a --filter='- *.qcow2' --exclude='*.img' /var/lib/libvirt/images/ /backup/rest/
