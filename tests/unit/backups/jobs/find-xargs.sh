#!/bin/sh
find /var/lib/libvirt/images -name '*.img' -print0 | xargs -0 -I{} rsync -a {} /backup/
