seq 1 1000 | grep 7 | sort -rn | head -n 3
seq 1 100000 | tail -n 1
seq 1 5 | while read n; do echo "line $n"; done
yes | head -n 20000 | wc -l
echo one two three | tr ' ' '\n' | sort | uniq | wc -l
seq 1 300 | xargs echo | wc -w
seq 1 20 | xargs -n 5 echo
cat /dev/zero | head -c 100000 | wc -c
echo abc | sed 's/b/B/' | awk '{ print $1 "!" }'
seq 1 3 | tee /tmp/pipelines.copy | cat - /tmp/pipelines.copy
rm /tmp/pipelines.copy
