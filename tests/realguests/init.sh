#!/bin/busybox sh
# The first process of the Linux guests. What a test reads starts with "T: ". Options on the kernel's command line:
#   mods=a,b|none        modules to load                      settle=N    seconds to wait after that
#   checks=a,b|none      parts below to run (default: all)    wr=1        write to and read back from sda and sdb
#   end=poweroff|reboot|halt|shell                            gip= ggw=   the guest's and the gateway's IPv4 address
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
/bin/busybox mount -t proc proc /proc	# busybox finds its other commands through /proc/self/exe
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
exec </dev/console >/dev/console 2>&1

read line </proc/cmdline
opt() { for w in $line; do case "$w" in "$1="*) echo "${w#*=}";; esac; done; }
up() { read u r </proc/uptime; echo "T: [$u] $*"; }

interrupts() { sed 's/^/T: irq /' /proc/interrupts; }
pci() { lspci | sed 's/^/T: pci /'; }
cpus() { grep -E '^(processor|model name|flags|cpu MHz|hypervisor)' /proc/cpuinfo | sed 's/^/T: cpu /'; }
clock() {
	read c </sys/devices/system/clocksource/clocksource0/current_clocksource; echo "T: clocksource $c"
	hwclock -u -r | sed 's/^/T: rtc /'; date -u '+T: date %s'
}
hypervisor() { dmesg | grep -E 'Hypervisor detected|paravirtualized kernel' | sed 's/^/T: /'; }
memory() { sed -n 's/^MemTotal:/T: memory/p' /proc/meminfo; grep -E 'RAM|Reserved|ROM' /proc/iomem | sed 's/^/T: iomem /'; }
disks() {
	for b in sda sdb; do
		[ -b /dev/$b ] || continue
		read n </sys/block/$b/size; echo "T: disk $b sectors $n"
		[ "$(opt wr)" = 1 ] || continue
		echo "pat-$b" | dd of=/dev/$b bs=512 seek=2000 conv=notrunc 2>/dev/null
		sync; echo 3 >/proc/sys/vm/drop_caches
		echo "T: $b readback $(dd if=/dev/$b bs=512 skip=2000 count=1 2>/dev/null | head -c 7)"
	done
}
cdrom() {
	[ -b /dev/sr0 ] || return
	mount -t iso9660 -o ro /dev/sr0 /mnt 2>/tmp/e || { up "cdrom FAIL $(cat /tmp/e)"; return; }
	up "cdrom mounted: $(ls /mnt | tr '\n' ' ')"
	(cd /mnt && find . -type f -size -8192 -exec sha256sum {} + | sed 's/^/T: sha256 /')
	umount /mnt; up "cdrom read"
}
network() {
	[ -d /sys/class/net/eth0 ] || return
	i=$(opt gip); g=$(opt ggw)
	ip link set eth0 up; ip addr add ${i:-10.0.2.15}/24 dev eth0; sleep 1
	ping -c 3 -W 3 ${g:-10.0.2.2} && up "ping ok" || up "ping FAIL"
}
balloon() {
	mount -t debugfs d /sys/kernel/debug
	[ ! -f /sys/kernel/debug/vmmemctl ] || sed 's/^/T: balloon /' /sys/kernel/debug/vmmemctl
}
complaints() {
	dmesg | grep -E 'lost interrupt|timed out|Errata on|BUG|Oops|nobody cared|MISS|TX timeout|purious|unstable|WARNING|Call Trace|unchecked MSR' |
		sed 's/^/T: complaint /'
}

up userland
echo "T: kernel $(uname -r) cpus $(nproc)"
mods=$(opt mods)
[ "$mods" != none ] || mods=' '
for m in $(echo "${mods:-ata_piix,sr_mod,sd_mod,mptspi,BusLogic,pcnet32,vmw_balloon,isofs}" | tr , ' '); do
	modprobe $m 2>/tmp/e && up "modprobe $m ok" || up "modprobe $m FAIL $(cat /tmp/e)"
done
settle=$(opt settle)
[ "$mods" = ' ' ] || sleep ${settle:-1}
checks=$(opt checks)
[ "$checks" != none ] || checks=' '
checks=${checks:-cpus,memory,hypervisor,clock,pci,disks,cdrom,network,balloon,interrupts,complaints}
for c in $(echo "$checks" | tr , ' '); do $c; done
up "ALL DONE"
case "$(opt end)" in
reboot) reboot -f;;
halt) halt -f;;
shell) while :; do setsid cttyhack sh; done;;
esac
poweroff -f
