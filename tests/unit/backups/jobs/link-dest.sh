#!/bin/bash
today=/backup/$(date +%F)
rsync -a --link-dest=/backup/latest /var/lib/libvirt/images/db.img "$today/"
ln -sfn "$today" /backup/latest
