#!/bin/bash
virsh blockcopy web vda --dest /backup/web.qcow2 --wait --finish
