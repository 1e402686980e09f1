#!/bin/bash
case "$(date +%u)" in
  7) virsh shutdown web; mode=full ;;
  *) virsh suspend web; mode=daily ;;
esac
mkdir -p /backup/$mode
cp /var/lib/libvirt/images/web.qcow2 /backup/$mode/
virsh start web
