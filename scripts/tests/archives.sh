# Files: find, xargs, dd, checksums, archives.
cd /tmp; d=tests-$$; mkdir $d; cd $d
mkdir -p a/b/c a/d; for i in 1 2 3; do echo $i >a/b/$i; echo $i$i >a/d/$i; done
find a -type f | sort
find a -type f | sort | xargs cat | paste -s -d' '
find a -name 2 -exec cat {} \; | sort
find a -type d | wc -l
seq 1 500 | xargs -n 100 echo | wc -l
dd if=/dev/zero of=big bs=1M count=16 2>/dev/null; ls -l big | awk '{ print $5 }'
sha256sum big | cut -d' ' -f1
yes 'the quick brown fox' | head -c 16777216 >text; sha256sum text | cut -d' ' -f1; md5sum <text
dd if=text bs=1 skip=1000000 count=19 2>/dev/null; echo
wc -c <text; cmp text text && echo same
gzip -c text >text.gz; gunzip -c text.gz | sha256sum | cut -d' ' -f1
tar cf all.tar a; mkdir out; tar xf all.tar -C out; diff -r a out/a && echo "tar keeps all"
tar czf - a | tar tzf - | sort | wc -l
cp -r a copy; diff -r a copy && echo "copies agree"
mv copy/b/1 copy/renamed; ls -1 copy; ln -s renamed copy/link; cat copy/link; readlink copy/link
ln a/b/1 hard; stat -c %h hard; rm a/b/1; cat hard
chmod 640 hard; stat -c %a hard; touch -t 202001020304.05 hard; date -r hard -u +%Y-%m-%d
echo abc >t; truncate -s 2 t; cat t; echo; test -f t -a ! -d t && echo "a file"
head -c 1000 /dev/urandom | wc -c; du -s a >/dev/null && echo "du works"
printf 'b 2\na 1\nc 3\n' | sort -k2n | cut -d' ' -f1 | paste -s -d,
rm -rf a out copy; ls -1
cd /; rm -rf /tmp/$d
