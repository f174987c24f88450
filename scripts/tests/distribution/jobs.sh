# Jobs and signals, as bash sees them.
set -m
sleep 100 &
pid=$!
kill -STOP %1
until jobs | grep -q Stopped; do sleep 0.05; done
jobs
bg %1 >/dev/null
until jobs | grep -q Running; do sleep 0.05; done
jobs
# By its number: a job that has ended before it is waited for is told of, and then it is none.
{
    kill %1
    wait "$pid"
    echo $?
    (exit 7) &
    wait $!
    echo $?
} 2>/dev/null
set +m
trap 'echo got it' USR1
kill -USR1 $$
timeout 0.3 sleep 10
echo $?
bash -c 'timeout -s KILL 0.3 sleep 10; exit $?' 2>/dev/null
echo $?
pids=
for number in 1 2 3 4 5 6 7 8; do (sleep 0.0$number; exit $number) & pids="$pids $!"; done
sum=0
for pid in $pids; do wait "$pid"; sum=$((sum + $?)); done
echo $sum
trap 'echo the end' EXIT
