# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034,SC2154
desc='the harness itself: damaged pages, damaged sectors and kernel alarms are noticed'
programs='memhog iohammer'

prepare() {
	disk "$WORK/swap" 512M
	disk "$WORK/raw" 16M
	serve swap "$WORK/swap"
	serve raw "$WORK/raw" $((PORT + 1))
}

guest() {
	nbd-client "$HOST4" $((PORT + 1)) /dev/nb1 -N raw > /dev/null
	iohammer -n 2 -t 2 /dev/nb1 > /tmp/hammer && ok 'iohammer runs'
	note "digest $(sed -n 's/^digest //p' /tmp/hammer)"
	nbd-client -d /dev/nb1 > /dev/null
	echo 'BUG: this is a test of the harness' > /dev/kmsg
	attach 0 swap -swap
	swap_on 0
	say swapping
	if memhog -n 2 -m $((MEM_MB * 2)) -t 20; then
		not_ok 'memhog notices pages that were damaged on the server'
	else
		ok 'memhog notices pages that were damaged on the server'
	fi
	swapoff /dev/nb0
	nbd-client -d /dev/nb0 > /dev/null
}

host() {
	report_wait '^say swapping' "$FROM" 60
	report_wait '^# live .*used_mb=1[0-9][0-9] ' "$FROM" 60
	# Only pages of memhog, known by their first words: process 1 needs its own
	/usr/bin/python3 -c '
import struct, sys
with open(sys.argv[1], "r+b") as f:
    for page in range(1, 512 * 256):
        f.seek(page * 4096)
        index, generation, checksum = struct.unpack("<QQQ", f.read(24))
        if index < 1 << 20 and generation < 1000 and checksum >> 40:
            f.seek(page * 4096 + 3000)
            f.write(b"damaged!")' "$WORK/swap"
}

after() {
	_digest=$(report_since "$FROM" | sed -n 's/^# digest //p')
	check 'iohammer finds the raw file right' \
		"$TOP/build/stress/bin/iohammer" -n 2 -c "$_digest" "$WORK/raw"
	printf X | dd of="$WORK/raw" bs=1 seek=1000003 conv=notrunc status=none
	check 'iohammer finds one byte of it changed' \
		sh -c "! '$TOP/build/stress/bin/iohammer' -n 2 -c '$_digest' '$WORK/raw'"
	check 'bad pages are counted' \
		sh -c "grep -q '^# metric bad_pages=[1-9]' '$REPORT'"
	check 'a kernel alarm is an alarm' console_has "$ALARM"
	expect='this is a test of the harness'
}
