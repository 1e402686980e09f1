#!/bin/bash
. /etc/default/vm-copy
rsync $RSYNC_OPTS /var/lib/libvirt/images/ "$TARGET"
