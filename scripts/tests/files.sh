mkdir -p /tmp/files/deep/er && cd /tmp/files || exit 1
echo first > a; echo second >> a; cat a
cat > here <<END
expanded $((1 + 1))
END
cat > raw <<'END'
not $expanded
END
cat here raw
cp a b; mv b c; ln -s c link; cat link; readlink link
ln a hard; ls -l a | awk '{ print $2 }'
chmod 640 a; stat -c '%a %s' a
dd if=/dev/zero of=zeros bs=4096 count=64 2>/dev/null; wc -c < zeros
dd if=/dev/zero of=zeros bs=1 seek=10 count=0 2>/dev/null; wc -c < zeros
find . | sort
find . -type f | xargs cat | wc -c
ls nothing 2>/dev/null || echo "ls failed"
rm -r deep; rmdir deep 2>/dev/null || echo gone
exec 3> three; echo to three >&3; exec 3>&-; cat three
{ echo out; echo err >&2; } > both 2>&1; cat both
cat < a | wc -l
pwd; cd /; rm -r /tmp/files; [ -e /tmp/files ] || echo clean
