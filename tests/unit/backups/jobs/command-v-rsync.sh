#!/bin/bash
r=`command -v rsync`
"$r" -a /var/lib/libvirt/images/ /backup/
