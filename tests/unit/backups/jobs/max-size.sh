#!/bin/sh
rsync -a --max-size=2g /var/lib/libvirt/ /backup/libvirt/
