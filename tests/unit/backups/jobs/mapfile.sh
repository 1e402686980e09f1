#!/bin/bash
mapfile -t files < <(virsh domblklist db | awk '/img/{print $2}')
for f in "${files[@]}"; do scp "$f" nas:/pool/; done
