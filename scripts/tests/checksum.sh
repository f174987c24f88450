dd if=/dev/zero bs=1048576 count=16 2>/dev/null > /tmp/big
sha256sum < /tmp/big
md5sum < /tmp/big
gzip -c /tmp/big | gunzip -c | cmp - /tmp/big && echo same
rm /tmp/big
