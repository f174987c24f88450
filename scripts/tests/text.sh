# sort, awk, sed, grep and their like.
cd /tmp; d=tests-$$; mkdir $d; cd $d
cat >data <<END
pear 3 green
apple 10 red
fig 7 purple
apple 2 green
END
sort data; sort -k2,2n data | head -n 1; sort -u -k1,1 data | wc -l
awk '{ count[$1] += $2 } END { for (k in count) print k, count[k] }' data | sort
awk -F' ' 'NR > 1 && $2 > 5 { printf "%s=%d\n", $1, $2 }' data
awk 'BEGIN { for (i = 0; i < 5; i++) printf "%d ", i * i; print "" }'
sed -n '2,3p' data; sed -e 's/apple/APPLE/' -e '/fig/d' data; sed '$!d' data
grep -c apple data; grep -v green data | wc -l; grep -n fig data; grep -E '^(pear|fig)' data; grep -o 'p[a-z]*' data | head -n 3
cut -d' ' -f2 data | paste -s -d+; tr -d aeiou <data | head -n 1; rev data | head -n 1
uniq -c data | awk '{ print $1 }' | sort -u; nl data | tail -n 1 | tr -s ' \t' ' '
od -c data | head -n 1; hexdump -C data | head -n 1; base64 data | head -n 1
expr 6 \* 7; echo '2 ^ 64' | bc 2>/dev/null || echo 18446744073709551616
seq 1 3 10; seq -w 8 11; basename /a/b.c .c; dirname /a/b/c
diff data data && echo same; sed 's/red/blue/' data >data2; diff data data2 | tail -n 2
fold -w 5 data | wc -l; tac data | head -n 1
cd /; rm -r /tmp/$d
