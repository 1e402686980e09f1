#!/bin/bash
gzip -c /var/lib/libvirt/images/web.qcow2 >/backup/web.gz
