# Looking at processes: procps.
sleep 77 &
ps -o comm= -p $!
pgrep -c -x sleep
tr '\0' ' ' <"/proc/$!/cmdline" && echo
pkill -x sleep
wait $! 2>/dev/null
echo $?
free -b | awk 'NR == 2 { print ($2 > $4 && $4 > 0) }'
uptime | grep -c 'load average'
ps -e -o pid= | grep -cx ' *1'
