#!/bin/bash
how=-a
choose() { local -n chosen=$1; chosen='-a --inplace --no-whole-file'; }
choose how
rsync $how /var/lib/libvirt/images/db.img /backup/
