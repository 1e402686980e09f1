#!/bin/bash
cp -al /var/lib/libvirt/images /var/lib/libvirt/stage
rsync -aS /var/lib/libvirt/stage/ /backup/
