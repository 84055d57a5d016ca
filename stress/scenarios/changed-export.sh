# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034,SC2154
desc='the server comes back with another export: refused, reported and never used; then with the right one, on a server that can do more'
long=y
servers='nbswap nbd-server'
mem=256
boot=shared
programs=iohammer
modules=loop
timeout=150

prepare() {
	disk "$WORK/raw" 64M
	disk "$WORK/other" 32M
	disk "$WORK/same-size" 64M
	serve raw "$WORK/raw"
}

# said PATTERN: the driver gives it as the reason why there is no link
said() {
	nbd-client status nb0 --json > /tmp/status
	! grep -q '"state": *"ready"' /tmp/status && grep -qE "\"error\": *\"[^\"]*$1" /tmp/status
}

# refused WORD PATTERN: the host has put a wrong export there
refused() {
	await "$1"
	if until_true 20 said "$2"; then
		ok "$1: refused, and the status says why"
	else
		not_ok "$1: refused, and the status says why"
	fi
	note "$1: $(sed -n 's/.*"error": *\("[^"]*"\).*/\1/p' /tmp/status | head -n 1)"
	# Long enough for the driver to try again, and still refuse
	sleep 3
	check "$1: still refused at the next attempt" said "$2"
	check "$1: nothing has failed" sh -c '! test -s /tmp/hammer.end'
	say "seen-$1"
}

guest() {
	attach 0 raw
	(
		_rc=0
		iohammer -n 4 -t 35 /dev/nb0 > /tmp/hammer || _rc=$?
		echo "$_rc" > /tmp/hammer.end
	) &
	sleep 3
	say hammering
	refused size 'export has changed: its size'
	refused flags 'export has changed: its flags'
	refused less 'export has changed: its flags'
	await right
	check 'the right export is taken again, a flag of no concern notwithstanding' until_true 20 \
		sh -c 'nbd-client status nb0 --json | grep -q "\"state\": *\"ready\""'
	until_true 100 test -s /tmp/hammer.end
	same 'every read returned what was written, none failed' "$(cat /tmp/hammer.end)" 0
	sed -n 's/^# iohammer/&/p; s/^# metric /&/p' /tmp/hammer
	note "digest $(sed -n 's/^digest //p' /tmp/hammer)"
	rm -f /tmp/hammer.end
	check 'disconnect' nbd-client -d /dev/nb0
}

# another WORD FILE [CONFIG-LINE...]: the server dies and comes back with FILE
another() {
	_word=$1 _f=$2
	shift 2
	server_kill raw
	server_define raw "$_f" "$PORT" "$@"
	server_up raw
	vm_say "go $_word"
}

host() {
	report_wait '^say hammering' "$FROM" 60
	another size "$WORK/other"
	report_wait '^say seen-size' "$FROM" 60
	another flags "$WORK/same-size" 'readonly = true'
	report_wait '^say seen-flags' "$FROM" 60
	# The right one, but the device may be asking for what is no longer there
	another less "$WORK/raw" 'trim = false'
	report_wait '^say seen-less' "$FROM" 60
	# As after an upgrade, if it was another server: ours tells more
	SERVER=nbswap
	another right "$WORK/raw" 'rotational = true'
}

after() {
	check 'not a byte was written to the wrong files' sh -c \
		"cmp -n 33554432 '$WORK/other' /dev/zero && cmp -n 67108864 '$WORK/same-size' /dev/zero"
	check 'the raw file holds what iohammer wrote' "$TOP/build/stress/bin/iohammer" -n 4 \
		-c "$(report_since "$FROM" | sed -n 's/^# digest //p' | tail -n 1)" "$WORK/raw"
}
