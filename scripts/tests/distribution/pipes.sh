# What bash makes of pipes, fifos and files without a name.
echo x | cat /dev/stdin
cat <(echo y)
comm <(printf '%s\n' a b) <(printf '%s\n' b c)
printf '%s\n' two one three | tee >(sort >sorted) >/dev/null
until [ -s sorted ]; do sleep 0.05; done
tr '\n' ' ' <sorted && echo
cat /proc/self/fd/0 <<<'here'
cat <<END /dev/fd/3 3<<<'at three'
END
coproc upper { sed -u s/l/L/g; }
pid=$upper_PID
echo hello >&"${upper[1]}"
read -r line <&"${upper[0]}"
echo "$line"
kill "$pid"
wait "$pid"
echo $?
mkfifo fifo
cat fifo &
echo through >fifo
wait
yes | head -n 2 | wc -l
false | true | (exit 3)
echo "${PIPESTATUS[*]}"
head -c 3000000 /dev/zero | tee >(wc -c >count) | sha256sum
until [ -s count ]; do sleep 0.05; done
cat count
exec 5<>fifo
echo both >&5
read -r -u 5 line
echo "$line"
