#!/bin/bash
one() {
  virsh suspend $1
  cp /var/lib/libvirt/images/$1.* /backup/
  virsh resume $1
}
one web &
one db &
wait
