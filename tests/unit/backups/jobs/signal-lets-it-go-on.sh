#!/bin/bash
pid=$(cat /run/libvirt/qemu/web.pid)
kill -s STOP $pid
kill -SIGCONT $pid
cp /var/lib/libvirt/images/web.qcow2 /backup/
