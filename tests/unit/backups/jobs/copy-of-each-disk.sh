#!/bin/bash
for f in $(virsh domblklist web | awk '/images/{print $2}'); do cp "$f" /backup/; done
