#!/bin/bash
cat /var/lib/libvirt/images/web.qcow2 | ssh nas 'cat >/pool/web.qcow2'
