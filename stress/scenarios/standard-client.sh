# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034,SC2086,SC2154
desc="Debian's nbd-client drives our module, by netlink and by ioctl"
mem=192
params=name_prefix=nbd
programs='/usr/sbin/nbd-client iohammer'

prepare() {
	disk "$WORK/raw" 32M
	serve raw "$WORK/raw"
}

round() {
	check "$1: connects" nbd-client "$HOST4" "$PORT" /dev/nbd0 -N raw $2
	check "$1: goes live" until_true 10 test -e /sys/block/nbd0/pid
	same "$1: size" "$(cat /sys/block/nbd0/size)" 65536
	check "$1: -c says connected" nbd-client -c /dev/nbd0
	check "$1: verified I/O" iohammer -n 2 -t 5 /dev/nbd0
	check "$1: swap" sh -c 'mkswap /dev/nbd0 && swapon /dev/nbd0 && swapoff /dev/nbd0'
	check "$1: -d disconnects" nbd-client -d /dev/nbd0 $3
	check "$1: -c says not connected" until_true 10 sh -c '! nbd-client -c /dev/nbd0'
	same "$1: size is gone" "$(cat /sys/block/nbd0/size)" 0
}

guest() {
	check 'it is the standard client' sh -c 'nbd-client -V | grep -q 3.24'
	check 'devices are named nbdN' test -b /dev/nbd0
	round netlink '' ''
	round 'netlink, four connections' '-connections 4' ''
	round ioctl -nonetlink -nonetlink
	check 'module unload' rmmod nbd
}
