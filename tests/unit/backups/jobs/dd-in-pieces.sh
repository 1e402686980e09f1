#!/bin/bash
for i in $(seq 0 99); do
  dd if=/dev/vgvm/mail of=/backup/mail.$i bs=1M count=64 skip=$((i * 64))
done
