#!/bin/bash
is_up() { [ "$(virsh domstate $1)" = running ]; }
main() {
  if is_up web; then return 1; fi
  cp /var/lib/libvirt/images/web.qcow2 /backup/
}
main
