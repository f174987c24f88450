# A shell and its children, traced.
strace -f -o trace sh -c 'ls / | wc -l >/dev/null; exit 3'
echo $?
grep -c 'execve(' trace
grep -c 'exited with' trace
tail -n 1 trace | sed 's/^[0-9]* *//'
strace -e trace=openat -e inject=openat:error=EMFILE cat /etc/passwd 2>&1 | grep -q EMFILE && echo injected
