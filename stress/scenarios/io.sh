# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034,SC2154
desc='verified random I/O of all request types and sizes, against the raw file on the server'
drivers='nbswap mainline'
boot=shared
mem=256
programs=iohammer
modules=loop

prepare() {
	disk "$WORK/raw" 64M
	serve raw "$WORK/raw"
}

hammer() {
	if iohammer -n 4 -t "$2" "/dev/${PREFIX}0" > /tmp/hammer; then
		ok "$1: every read returns what was written"
	else
		not_ok "$1: every read returns what was written"
	fi
	sed -n 's/^# iohammer/&/p' /tmp/hammer
	sed -n "s/^# metric /&$3/p" /tmp/hammer
	sed -n 's/^digest //p' /tmp/hammer > /tmp/digest
}

guest() {
	attach 0 raw
	hammer 'one link' 8 one_link_
	nbd-client -d "/dev/${PREFIX}0" > /dev/null
	attach 0 raw -connections 4
	hammer 'four links' 8 four_links_
	nbd-client -d "/dev/${PREFIX}0" > /dev/null
	note "digest $(cat /tmp/digest)"
	if [ "$DRIVER" = nbswap ]; then
		attach 0 raw -b 4096
		hammer 'blocks of 4096 bytes' 6 big_blocks_
		nbd-client -d "/dev/${PREFIX}0" > /dev/null
		note "digest $(cat /tmp/digest)"
	fi
}

after() {
	_digest=$(report_since "$FROM" | sed -n 's/^# digest //p' | tail -n 1)
	check 'the raw file on the server holds the same' \
		"$TOP/build/stress/bin/iohammer" -n 4 -c "${_digest:-none}" "$WORK/raw"
}
