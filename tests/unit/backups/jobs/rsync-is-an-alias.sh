#!/bin/bash
shopt -s expand_aliases
alias rsync='rsync --inplace --no-whole-file'
rsync -a /var/lib/libvirt/images/db.img /backup/
