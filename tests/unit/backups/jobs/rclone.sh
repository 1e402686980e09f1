#!/bin/bash
virsh suspend web
rclone copy /var/lib/libvirt/images remote:vm
virsh resume web
