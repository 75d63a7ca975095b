#!/bin/busybox sh
# What the benchmarks time inside a Linux guest, between two lines that begin with "T: load". Options on the kernel's
# command line: forks=N, where with turn=M a line is waited for before each M of them, and with mib=N that much text is
# made, hashed and compressed, and its words are counted; then the shell counts.
read line </proc/cmdline
opt() { for w in $line; do case "$w" in "$1="*) echo "${w#*=}";; esac; done; }
told() { echo "T: load $*"; }

n=$(opt forks)
if [ -n "$n" ]; then
	turn=$(opt turn)
	told begin forks
	i=0
	while [ $i -lt $n ]; do
		[ -z "$turn" ] || [ $((i % turn)) -ne 0 ] || { told turn forks; read go; }
		# by its path, or the shell would do it itself
		/bin/busybox true && i=$((i + 1))
	done
	told end forks $i
fi
n=$(opt mib)
if [ -n "$n" ]; then
	mount -t tmpfs -o size=100% tmpfs /mnt
	told begin text
	stress text $n >/mnt/text
	told end text $(stat -c %s /mnt/text)
	cat /mnt/text >/dev/null
	told begin sha256sum
	sum=$(sha256sum /mnt/text)
	told end sha256sum ${sum%% *}
	told begin gzip
	bytes=$(gzip -c /mnt/text | wc -c)
	told end gzip $bytes
	told begin awk
	words=$(head -c 4194304 /mnt/text | awk '{ for (i = 1; i <= NF; i++) of[$i]++ } END { for (w in of) n++; print n, NR }')
	told end awk ${words% *}
	told begin shell
	i=0
	while [ $i -lt 100000 ]; do i=$((i + 1)); done
	told end shell $i
fi
