#!/bin/bash
/opt/site/freeze-all
rsync -aS /var/lib/libvirt/images/ /backup/
/opt/site/thaw-all
