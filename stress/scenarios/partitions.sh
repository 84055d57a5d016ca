# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034,SC2154
desc='a partition table on the export: partitions appear and disappear'
boot=shared
mem=256
modules=loop

prepare() {
	disk "$WORK/raw" 64M
	printf 'start=2048,size=16384\nstart=18432,size=32768\n' |
		sfdisk -q "$WORK/raw" > /dev/null
	serve raw "$WORK/raw"
}

guest() {
	nbd-client "$HOST4" "$PORT" /dev/nb0 -N raw > /dev/null
	check 'first partition appears' until_true 10 test -b /dev/nb0p1
	check 'second partition appears' until_true 10 test -b /dev/nb0p2
	same 'its size' "$(cat /sys/block/nb0/nb0p2/size)" 32768
	check 'a partition is written' dd if=/bin/busybox of=/dev/nb0p2 bs=64k count=4 conv=fsync
	exec 5< /dev/nb0p1
	refuse 'disconnect is refused while a partition is open' 'in use|busy' nbd-client -d /dev/nb0
	exec 5<&-
	check 'disconnects' nbd-client -d /dev/nb0
	check 'partitions disappear' until_true 5 test ! -e /sys/block/nb0/nb0p1
}

after() {
	check 'the data is at its place in the raw file' \
		cmp -n 262144 -i 9437184:0 "$WORK/raw" /usr/bin/busybox
}
