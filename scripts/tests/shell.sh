# The shell itself: functions, subshells, arithmetic, traps, jobs in the background.
fact() { if [ $1 -le 1 ]; then echo 1; else echo $(($1 * $(fact $(($1 - 1))))); fi; }
fact 10
f() { local x=inner; echo $x; }; x=outer; f; echo $x
(x=changed; cd /tmp; pwd); echo $x; pwd | grep -q /tmp || echo "still here"
echo $((1 << 40)) $((7 % 3)) $((0x1f)) $((5 > 3 && 2 > 1)) $((-7 / 2))
i=0; while [ $i -lt 1000 ]; do i=$((i + 1)); done; echo $i
for w in a b c; do case $w in b) continue ;; esac; echo $w; done
set -- one "two words" three; echo $#; for a; do echo "[$a]"; done; shift; echo $1
v=abcdef; echo ${#v} ${v#ab} ${v%ef} ${v:-default} ${unset:-default} ${v:2:3}
echo a*b "?" \$v '$v'
sleep 0.2 & sleep 0.1 & wait; echo "waited"
(exit 5) & wait $!; echo "background $?"
trap 'echo trapped' USR1; kill -USR1 $$; echo after
trap 'echo leaving' EXIT
sh -c 'trap "echo term; exit 7" TERM; kill -TERM $$; sleep 5'; echo "status $?"
sh -c 'kill -KILL $$'; echo "status $?"
sleep 100 & p=$!; kill $p; wait $p; echo "killed $?"
true && echo and || echo or; false && echo and || echo or
n=0; for i in 1 2 3 4 5; do (sleep 0.0$i; exit $i) & done; wait; echo "all done"
printf '%05d|%-5s|%x\n' 42 ab 255
IFS=:; set -- a:b:c; set -- $1; echo $#
read a b <<END
x:y:z
END
echo "$a $b"
exit 0
