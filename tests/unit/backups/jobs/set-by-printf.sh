#!/bin/bash
how=
printf -v how '%s' '--inplace --no-whole-file'
rsync -a $how /var/lib/libvirt/images/db.img /backup/
