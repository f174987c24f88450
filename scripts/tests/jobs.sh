exec 2>/dev/null
sleep 0.2 & echo started; wait $!; echo "waited $?"
(exit 5) & wait $!; echo "background $?"
i=0; while [ $i -lt 8 ]; do (sleep 0.1; exit $i) & i=$((i + 1)); done; wait; echo all
trap 'echo got the signal' USR1; kill -USR1 $$; trap - USR1
sleep 100 & victim=$!; kill -TERM $victim; wait $victim; echo "killed $?"
sleep 100 & victim=$!; kill -STOP $victim; kill -KILL $victim; wait $victim; echo "killed $?"
sh -c 'trap "echo leaving" EXIT; exit 3'; echo "status $?"
timeout 0.2 sleep 100; echo "timed out $?"
i=0; while [ $i -lt 300 ]; do /bin/true || echo failed; i=$((i + 1)); done; echo "forked $i"
sh -c 'kill -SEGV $$'; echo "fault $?"
