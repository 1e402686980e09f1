#!/bin/bash
make -C /opt/backup nightly
