#!/bin/bash
virsh list --name | while read -r g; do
  [ -n "$g" ] || continue
  virsh domblklist "$g" --details | awk '$2=="disk"{print $4}' | while read -r f; do rsync -aS "$f" /backup/; done
done
