#!/bin/bash
( virsh suspend web && cp /var/lib/libvirt/images/web.qcow2 /backup/; virsh resume web ) &
wait
