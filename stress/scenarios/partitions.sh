# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034,SC2154
desc='a partition table on the export: partitions appear and disappear'
boot=shared
mem=256
modules=loop
programs='nbdnl nbdioctl'

prepare() {
	disk "$WORK/raw" 64M
	# Two entries of an MBR: first sector 2048, 16384 of them; 18432, 32768
	{
		printf '\0\0\0\0\203\0\0\0\0\010\0\0\0\100\0\0'
		printf '\0\0\0\0\203\0\0\0\0\110\0\0\0\200\0\0'
	} | dd of="$WORK/raw" bs=1 seek=446 conv=notrunc status=none
	printf '\125\252' | dd of="$WORK/raw" bs=1 seek=510 conv=notrunc status=none
	serve raw "$WORK/raw"
	disk "$WORK/plain" 64M
	serve plain "$WORK/plain" $((PORT + 1))
}

# A partition that was open when its device was taken down by force
left_over() {
	nbd-client "$HOST4" "$PORT" /dev/nb0 -N raw > /dev/null
	until_true 10 test -b /dev/nb0p1
	exec 5< /dev/nb0p1
	nbd-client -d /dev/nb0 -force
	check 'one that is open stays when its device goes' test -e /sys/block/nb0/nb0p1
	exec 5<&-
	# Unlike the client it does not open the device, which would read the table anew
	_holder=$(nbdnl connect 0 "$HOST4" $((PORT + 1)) plain)
	check 'another export is connected' until_true 5 test -e /sys/block/nb0/pid
	check 'and it does not lead into that' test ! -e /sys/block/nb0/nb0p1
	nbd-client -d /dev/nb0
	kill "$_holder"
}

guest() {
	nbd-client "$HOST4" "$PORT" /dev/nb0 -N raw > /dev/null
	check 'first partition appears' until_true 10 test -b /dev/nb0p1
	check 'second partition appears' until_true 10 test -b /dev/nb0p2
	same 'its size' "$(cat /sys/block/nb0/nb0p2/size)" 32768
	check 'a partition is written' dd if=/bin/busybox of=/dev/nb0p2 bs=64k count=4 conv=fsync
	nbdioctl -p /dev/nb0p1
	exec 5< /dev/nb0p1
	refuse 'disconnect is refused while a partition is open' 'in use|busy' nbd-client -d /dev/nb0
	exec 5<&-
	check 'disconnects' nbd-client -d /dev/nb0
	check 'partitions disappear' until_true 5 test ! -e /sys/block/nb0/nb0p1
	left_over
}

after() {
	check 'the data is at its place in the raw file' \
		cmp -n 262144 -i 9437184:0 "$WORK/raw" /usr/bin/busybox
}
