# The tools on text and files, several of them at once.
mkdir -p tree/{a,b,c}/{1,2,3}
for directory in tree/*/*; do seq 1 50 >"$directory/numbers"; done
find tree -type f | sort | head -n 3
find tree -name numbers -print0 | xargs -0 -P 4 -n 1 sha256sum | cut -d ' ' -f 1 | sort | uniq -c | sed 's/^ *//'
grep -rc 7 tree | sort | tail -n 2
sed -n '/^4/{s/$/!/p}' tree/a/1/numbers | tr '\n' ' ' && echo
awk '{ sum += $1 } END { print sum }' tree/*/*/numbers
awk 'BEGIN { while (("seq 3" | getline line) > 0) total += line; print total }'
tar -czf tree.tar.gz tree
mkdir other && tar -xzf tree.tar.gz -C other
diff=$(cd other/tree && find . -type f -exec sha256sum {} + | sort | sha256sum)
[ "$diff" = "$(cd tree && find . -type f -exec sha256sum {} + | sort | sha256sum)" ] && echo same
seq 100000 | sort -R | sort -n | sha256sum
seq 100000 | gzip | gzip -dc | tail -n 1
touch -d '2020-02-02 02:02:02 UTC' stamp && TZ=UTC stat -c '%y %a' stamp
rm -r tree other tree.tar.gz
ls
