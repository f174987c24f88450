#!/bin/sh
# Runs the programs that /conform/list names (`<seconds> <directory> <program>` a line), each in a session of its own and for so
# long at most, and says on the console what became of them. Whatever they left running is killed.
dmesg -n 1 2>/dev/null
now() { cut -d . -f 1 /proc/uptime; }
echo "CONFORM programs $(wc -l </conform/list)"
while read -r limit directory program; do
    echo "CONFORM begin $directory/$program"
    start=$(now)
    cd "/conform/$directory" || exit
    setsid timeout -s KILL "$limit" "./$program" </dev/null >/tmp/conform-output 2>&1
    status=$?
    kill -KILL -1
    # Control characters would end lines in the middle; a flood would take for ever on a serial line.
    head -c 100000 /tmp/conform-output | tr -cd '\n\t -~' | sed 's/^/| /'
    echo
    echo "CONFORM end $directory/$program $status $(($(now) - start))"
done </conform/list
rm -f /tmp/conform-output
echo "CONFORM over"
# Linux drops at its end what the serial line has not taken yet.
sleep 1
