#!/bin/sh
# Runs the stressors that it is given, each for so long, and says on the console what became of them and what memory is in use before
# and after. One that has left more in use is run again: what has grown to hold as much as was ever wanted does not grow again, a leak
# does.
seconds=$1
workers=$2
shift 2
mkdir -p /tmp/soak && cd /tmp/soak || exit

value() {
    while read -r key rest; do
        [ "$key" = "$1" ] && set -- "$rest" && break
    done </proc/breenix/memory
    echo "$1"
}

# Frames, heap objects and processes in use; nothing on a kernel that does not tell.
used() {
    [ -r /proc/breenix/memory ] || return
    echo 3 >/proc/sys/vm/drop_caches
    set -- /proc/[0-9]*
    echo "$(($(value frames) - $(value frames_free) - $(value frames_slab))) $(value heap_objects) $#"
}

stress() { # seconds, stressor
    timeout -s KILL $(($1 * 3 + 120)) stress-ng "--$2" "$workers" --verify --timeout "$1s" </dev/null >/run/said 2>&1
    status=$?
    rm -rf /tmp/soak/* /dev/shm/*
}

settled() { # what is to be in use
    tries=0
    now=$(used)
    # Whoever was orphaned, or died with another, may take a moment.
    while [ "$now" != "$1" ] && [ $tries -lt 50 ]; do
        sleep 0.1
        tries=$((tries + 1))
        now=$(used)
    done
    echo "$now"
}

echo "SOAK stressors $#"
stress 1 "$1"
for stressor; do
    before=$(used)
    echo "SOAK begin $stressor"
    stress "$seconds" "$stressor"
    after=$(settled "$before")
    if [ $status = 0 ] && [ "$after" != "$before" ]; then
        before=$after
        stress "$seconds" "$stressor"
        after=$(settled "$before")
    fi
    while read -r line; do echo "| $line"; done </run/said
    echo "SOAK end $stressor $status $before $after"
done
echo "SOAK over"
# Linux drops at its end what the serial line has not taken yet.
sleep 1
