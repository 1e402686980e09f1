#!/bin/sh
virsh save web /var/tmp/web.state
cp --sparse=always /var/lib/libvirt/images/web.qcow2 /backup/web.new && mv /backup/web.new /backup/web.qcow2
virsh restore /var/tmp/web.state
