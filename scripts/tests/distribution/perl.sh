# perl: processes, pipes, sockets, threads.
perl -e 'for my $i (1..8) { my $p = fork // die; exit $i if !$p } my $s = 0; while (wait != -1) { $s += $? >> 8 } print "$s\n"'
perl -e 'open my $p, "-|", "sort", "-r", "/etc/passwd" or die; print scalar(() = <$p>), "\n"'
perl -MSocket -e 'socketpair(my $a, my $b, AF_UNIX, SOCK_STREAM, 0) or die $!; syswrite $a, "pair\n"; sysread $b, my $x, 9; print $x'
perl -Mthreads -e 'my @t = map { my $n = $_; threads->create(sub { my $s = 0; $s += $_ for 1..1000 * $n; $s }) } 1..4; print join(",", map { $_->join } @t), "\n"'
perl -e '$SIG{ALRM} = sub { print "alarm\n"; exit 0 }; alarm 1; select undef, undef, undef, 60'
cp /etc/group edited && perl -pi -e 's/root/ROOT/' edited && head -n 1 edited
