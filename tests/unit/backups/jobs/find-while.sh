#!/bin/bash
while IFS= read -r -d '' f; do
  rsync -a "$f" /backup/
done < <(find /var/lib/libvirt/images -type f -name '*.img' -print0)
