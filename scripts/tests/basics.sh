echo hello
x=3; echo $((x * 14))
for word in one two three; do echo "$word"; done
case breenix in b*) echo matched ;; *) echo not ;; esac
false || echo "status $?"
(exit 7); echo "subshell $?"
f() { echo "function $1"; return 4; }
f argument; echo "returned $?"
echo "$(echo substituted)"
printf '%s-%03d\n' item 7
set -- a b c; echo "$# $2"
/bin/true && echo external
nosuchprogram 2>/dev/null; echo "not found $?"
echo "long line: $(printf '%0200d' 1 | wc -c)"
