# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034,SC2154
desc='four links under swap and iohammer: links cut at random, and two of four away for a while'
long=y
drivers='nbswap mainline'
servers='nbswap nbd-server'
mem=192
programs='memhog iohammer'
timeout=450
[ "${DRIVER:-}" != mainline ] || { may_die=y expect='.'; }

PROXY=11200

prepare() {
	disk "$WORK/swap" 1G
	disk "$WORK/raw" 64M
	serve swap "$WORK/swap"
	serve raw "$WORK/raw" $((PORT + 1))
	for _n in 0 1; do
		_s=$WORK/server/proxy$_n
		mkdir -p "$_s"
		echo $((PROXY + _n * 10)) > "$_s/port"
		echo "/usr/bin/python3 '$STRESS/proxy.py' $HOST4 $((PROXY + _n * 10)) $HOST4 $((PORT + _n))" \
			> "$_s/command"
		server_up proxy$_n
	done
}

# order N COMMAND...: to the proxy of device N; what it answers
order() {
	_p=$((PROXY + $1 * 10))
	shift
	echo "$@" | in_ns busybox nc "$HOST4" $_p -w 20
}

# through N EXPORT [OPTION...]: device N by way of its proxy
through() {
	_n=$1 _e=$2
	shift 2
	PORT=$((PROXY + _n * 10 + 1)) attach "$_n" "$_e" -C 4 "$@"
}

ready() {
	nbd-client status nb0 --json > /tmp/status
	[ "$(grep -o '"state": *"ready"' /tmp/status | wc -l)" = "$1" ]
}

# What the links of the swap device do
watch_links() {
	await two
	check 'two links of four are away' until_true 20 ready 2
	say two
	await four
	check 'all four are back' until_true 30 ready 4
	say four
}

guest() {
	through 0 swap -swap
	through 1 raw
	swap_on 0
	(
		_rc=0
		iohammer -n 4 -t 60 "/dev/${PREFIX}1" > /tmp/hammer || _rc=$?
		echo "$_rc" > /tmp/hammer.end
	) &
	say swapping
	hog_begin -n 4 -m $((MEM_MB * 2)) -s $((60 * SLOW))
	[ "$DRIVER" = mainline ] || watch_links
	hog_finish
	until_true 60 test -s /tmp/hammer.end || :
	same 'iohammer: every read returned what was written' "$(cat /tmp/hammer.end)" 0
	grep -E '^# (iohammer|metric)' /tmp/hammer || :
	note "digest $(sed -n 's/^digest //p' /tmp/hammer)"
	if [ "$DRIVER" = nbswap ]; then
		nbd-client status nb0 --json > /tmp/status
		metric "losses=$(sed -n 's/.*"losses": *\([0-9]*\).*/\1/p' /tmp/status | head -n 1)"
		metric "replays=$(sed -n 's/.*"replays": *\([0-9]*\).*/\1/p' /tmp/status | head -n 1)"
	fi
	check 'disconnect' nbd-client -d "/dev/${PREFIX}1"
	swap_off 0
}

disturb() {
	swapping
	for _i in 1 2 3 4 5 6 7 8 9 10; do
		order 0 cut 1 > /dev/null
		order 1 cut $((1 + _i % 3)) > /dev/null
		pause_ms $((_i * 7 % 10 * 100 * SLOW))
	done
	sleep 3
	progress 20 'progress after ten cuts'
	! control_ends || return 0
	order 0 down > /dev/null
	order 0 cut 2 > /dev/null
	vm_say 'go two'
	report_wait '^say two' "$FROM" 150
	# What the two had in hand has been taken over by now
	sleep 3
	progress 20 'progress over the two links that are left'
	progress 20 'and on'
	order 0 up > /dev/null
	vm_say 'go four'
	report_wait '^say four' "$FROM" 150
	note "tally 0 $(order 0 tally)"
	note "tally 1 $(order 1 tally)"
}

host() {
	disturb
	if mainline; then hog_over; else hog_enough; fi
}

after() {
	control_verdict must
	[ "$DRIVER" = nbswap ] || return 0
	check 'all cuts of the swap device met a link' sh -c \
		"grep '^# tally 0 ' '$REPORT' | grep -q 'cut=12'"
	check 'the raw file holds what iohammer wrote' "$TOP/build/stress/bin/iohammer" -n 4 \
		-c "$(report_since "$FROM" | sed -n 's/^# digest //p' | tail -n 1)" "$WORK/raw"
}
