# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034,SC2154
#
# What scenarios with memhog under way have in common on the host: waiting for
# it, rates and gaps of a stretch of time, random numbers that can be repeated.

now_ms() {
	echo $(($(date +%s%N) / 1000000))
}

mainline() {
	[ "$DRIVER" = mainline ]
}

# pause_ms MS
pause_ms() {
	sleep "$(($1 / 1000)).$(printf '%03d' $(($1 % 1000)))"
}

# random_seed: starts the numbers of this run and records what it takes to repeat it
random_seed() {
	RANDOM_STATE=$((NBSWAP_SEED + RUN_NUMBER - 1))
	metric "seed=$RANDOM_STATE"
}

# random BELOW: the next number, in $RANDOM_NUMBER
random() {
	RANDOM_STATE=$(((RANDOM_STATE * 1103515245 + 12345) % 2147483648))
	RANDOM_NUMBER=$((RANDOM_STATE / 65536 % $1))
}

# linger SECONDS: an outage; over at once if the guest is lost, as the reference
# driver's may be
linger() {
	_left=$1
	while [ "$_left" -gt 0 ] && vm_alive; do
		sleep 1
		_left=$((_left - 1))
	done
}

# outage SECONDS TEXT: so long, and in its last quarter, when free memory is used
# up, memhog stands still
outage() {
	linger $(($1 * 3 / 4))
	_still=$(live pages)
	linger $(($1 - $1 * 3 / 4))
	check "nothing can be swapped $2" test "$(live pages)" -lt $((_still + 200))
}

# hog_filled SECONDS: until every page of memhog's has been written once.  The
# longest gap until then is what a busy host does by itself: BASE_GAP_MS
hog_filled() {
	report_wait '^say swapping' "$FROM" 60 && report_wait '^# live .*filled=1' "$FROM" "$1" && {
		BASE_GAP_MS=$(live_max gap_ms "$FROM")
		return 0
	}
	not_ok "memory is filled within $(($1 * SLOW)) s"
	return 1
}

# hog_filling MB: until so much is in swap, with memory still being filled: from
# here on everybody asks for new pages, which only a finished write can give.  Once
# all pages are there, the workers wait for reads and leave memory alone.
hog_filling() {
	swapping "$1" && {
		BASE_GAP_MS=$(live_max gap_ms "$FROM")
		return 0
	}
	not_ok "$1 MB are in swap"
	return 1
}

# goes_on SECONDS [PAGES]: memhog does PAGES (200) more within that time, and the
# gap that an undisturbed run had on this host; WENT_ON_MS is how long it took
goes_on() {
	_from_ms=$(now_ms)
	_want=$(($(live pages) + ${2:-200}))
	_limit_ms=$(($1 * 1000 * SLOW + BASE_GAP_MS))
	until moved "$_want"; do
		WENT_ON_MS=$(($(now_ms) - _from_ms))
		[ $WENT_ON_MS -lt $_limit_ms ] || return 1
		sleep 0.1
	done
	WENT_ON_MS=$(($(now_ms) - _from_ms))
}

# live_mean NAME FROM, live_max NAME FROM: of memhog's lines after byte FROM
live_mean() {
	report_since "$2" | sed -n "s/^# live .* $1=\([0-9]*\).*/\1/p" |
		awk '{ s += $1 } END { printf "%d\n", NR ? s / NR : 0 }'
}

live_max() {
	report_since "$2" | sed -n "s/^# live .* $1=\([0-9]*\).*/\1/p" |
		awk '$1 > m { m = $1 } END { print m + 0 }'
}

# measure NAME SECONDS: what happens now becomes metrics NAME_in_per_s,
# NAME_out_per_s (pages) and NAME_gap_ms (longest time without one page), and
# IN_PER_S, OUT_PER_S, GAP_MS.  Who compares rates takes longer on a slow guest
measure() {
	# The line under way belongs to what was before
	_at=$(report_size)
	report_wait '^# live ' "$_at" 60 || :
	_at=$(report_size)
	sleep "$2"
	IN_PER_S=$(live_mean swapin "$_at")
	OUT_PER_S=$(live_mean swapout "$_at")
	GAP_MS=$(live_max gap_ms "$_at")
	metric "$1_in_per_s=$IN_PER_S"
	metric "$1_out_per_s=$OUT_PER_S"
	metric "$1_gap_ms=$GAP_MS"
}

# hog_verified: memory has been filled, and pages are read back for a while
hog_verified() {
	! hog_filled 180 || measure after 10
}

# hog_recovers SECONDS: it is over: swapping goes on within that time, every page is read
# back for a while, and the guest part ends
hog_recovers() {
	check "swapping goes on within $1 s" goes_on "$1"
	metric "recovery_ms=$WENT_ON_MS"
	hog_verified
	hog_over
}

# pages_right METRIC...: workers may have been killed; those that live have these at 0
pages_right() {
	for _m in "$@"; do
		check "what lives has its pages: $_m" reported "# metric $_m=0"
	done
}

# hog_over: tell the guest part that it has run long enough
hog_over() {
	vm_say 'go over'
}

# stalled: for control_verdict, a symptom if memhog did not go on where it should
stalled() {
	! report_since "$FROM" | grep -qE '^not ok .* goes on' || echo 'swapping does not go on'
}

# The host's half of starved_guest() in the guest's lib.sh: until memhog swaps
starved_ready() {
	report_wait '^say filled' "$FROM" 60
	vm_say 'go filled'
	swapping 30
}

hold_begins() {
	vm_say 'go hold'
	until_true 20 console_has 'eater: holds free memory' || not_ok 'the hold begins'
}

hold_lasts() {
	if console_has 'eater: gives back'; then
		not_ok 'the hold lasted until then'
	else
		ok 'the hold lasted until then'
	fi
}

# hold_ends SECONDS: at the latest
hold_ends() {
	until_true $(($1 + 10)) console_has 'eater: gives back' || not_ok 'the hold ends'
	note "$(tail -c "+$((CONSOLE_FROM + 1))" "$VM_CONSOLE" | tr -d '\r' | sed -n 's/.*\(eater: gives.*\)/\1/p')"
}

# probed FROM: IOS requests and the slowest of them, WORST ms, of ioprobe since byte FROM
probed() {
	# shellcheck disable=SC2046 # two words
	set -- $(report_since "$1" | sed -n 's/^# probe .* ios=\([0-9]*\) worst_ms=\([0-9]*\) .*/\1 \2/p' |
		awk '{ n += $1; if ($2 > w) w = $2 } END { print n + 0, w + 0 }')
	IOS=$1 WORST=$2
}
