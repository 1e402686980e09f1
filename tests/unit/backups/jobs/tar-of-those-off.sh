#!/bin/bash
off=$(virsh list --all | awk '/shut off/{print $2}')
for g in $off; do tar -czf /backup/$g.tgz $(virsh domblklist $g | awk '/images/{print $2}'); done
