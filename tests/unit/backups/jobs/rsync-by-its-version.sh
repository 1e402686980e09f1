#!/bin/bash
/opt/rsync-3.4/rsync-3.4 -aS --inplace /var/lib/libvirt/images/ /backup/
