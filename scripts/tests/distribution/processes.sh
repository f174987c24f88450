# Looking at processes: procps and strace.
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
strace -f -o trace sh -c 'ls / | wc -l >/dev/null; exit 3'
echo $?
grep -c 'execve(' trace
grep -c 'exited with' trace
tail -n 1 trace | sed 's/^[0-9]* *//'
strace -e trace=openat -e inject=openat:error=EMFILE cat /etc/passwd 2>&1 | grep -q EMFILE && echo injected
