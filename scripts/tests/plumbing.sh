# Pipelines of three and more, exit statuses, redirections, here-documents.
seq 1 1000 | grep 7 | sed 's/7/seven/g' | sort | head -n 3
printf 'c\nb\na\n' | sort | tr a-z A-Z | paste -s -d,
yes | head -n 100000 | wc -l
seq 100 | awk '{ s += $1 } END { print s }'
echo one two three | tr ' ' '\n' | while read word; do echo "<$word>"; done
false | true; echo "status $?"
true | false; echo "status $?"
(exit 3); echo "status $?"
! true; echo "status $?"
cd /tmp; d=tests-$$; mkdir $d; cd $d
echo first >f; echo second >>f; cat <f
ls /no/such/file 2>err; echo "status $?"; test -s err && echo "err is there"
{ echo out; echo err >&2; } >both 2>&1; cat both
exec 3>three; echo three >&3; exec 3>&-; cat three
cat <<END
here $((6 * 7))
END
cat <<'END'
not $((6 * 7))
END
cat <<-END | tr a-z A-Z
	tabs go
	END
seq 5 | tee copy | wc -l; cat copy | paste -s -d' '
echo "$(echo nested $(echo deeper))"
cat /dev/null | wc -c
mkfifo pipe; echo through the fifo >pipe & cat pipe; wait
seq 1 20000 | sort -n | sort -rn | uniq | tail -n 1
cd /; rm -r /tmp/$d
