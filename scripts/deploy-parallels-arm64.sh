#!/bin/sh
# Gives the Parallels machine a disk with the kernel as it is now. See --help.
exec "$(dirname "$0")/parallels" deploy "$@"
