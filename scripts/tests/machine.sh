grep -c ^processor /proc/cpuinfo
uname -s
echo $$ > /tmp/pid; [ -d /proc/$(cat /tmp/pid) ] && echo "own process"
ls /bin | grep -c '^busybox$'
[ -w /tmp ] && echo writable
id -u
tty >/dev/null && echo terminal
[ "$(cat /proc/1/comm)" = init ] && echo init
df /tmp >/dev/null && echo df
free | grep -c Mem
ps | grep -c '[i]nit' | sed 's/^[1-9].*/ps/'
yes > /dev/null & until grep -qw yes /proc/breenix/tasks; do :; done; kill $!; echo "tasks bear their programs' names"
