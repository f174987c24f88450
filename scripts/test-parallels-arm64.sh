#!/bin/sh
# Runs the tests of the kernel on Parallels Desktop. See --help.
exec "$(dirname "$0")/parallels" test "$@"
