# Loops that fork thousands of processes; free memory before and after is compared by the kernel's own tests.
i=0; while [ $i -lt 1000 ]; do /bin/true; i=$((i + 1)); done; echo "$i programs"
i=0; while [ $i -lt 1000 ]; do (exit $((i % 7))); i=$((i + 1)); done; echo "$i subshells"
i=0; sum=0; while [ $i -lt 300 ]; do sum=$((sum + $(echo $i | cat))); i=$((i + 1)); done; echo $sum
for round in 1 2 3 4 5 6 7 8; do for i in 1 2 3 4 5 6 7 8; do /bin/true & done; wait; done; echo "64 in the background"
