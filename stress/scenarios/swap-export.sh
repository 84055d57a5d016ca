# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034,SC2154
desc='a swap file made for the guest on first use: kept through restarts of the server, refused to others, given back, removed, new'
servers=nbswap
programs=memhog
long=y
timeout=400
GRACE=$((15 * SLOW))

prepare() {
	mkdir "$WORK/swap.d"
	server_define swap "$WORK/none" "$PORT"
	cat > "$WORK/server/swap/config" <<-EOF
		[generic]
		port = $PORT
		[swap-*]
		swapdir = $WORK/swap.d
		swapsize = 1g
		quota = 2g
		swapgrace = $GRACE
	EOF
	server_up swap
}

# A megabyte of the device has nothing in it
zeroes() {
	test "$(dd if="$1" bs=1M count=1 2> /dev/null | tr -d '\0' | wc -c)" = 0
}

guest() {
	attach 0 swap-guest -swap
	check 'it holds nothing but zeroes' zeroes "/dev/${PREFIX}0"
	swap_on 0
	say swapping
	memhog -n 4 -m $((MEM_MB * 2)) -t 3600 -s $((150 * SLOW)) &
	_hog=$!
	await over
	kill -TERM "$_hog"
	hog_result wait "$_hog"
	nobody_killed

	attach 1 swap-other
	check 'another name has zeroes of its own' zeroes "/dev/${PREFIX}1"
	refuse 'a third name is beyond the quota, which is said' 'quota' \
		nbd-client "$HOST4" "$PORT" "/dev/${PREFIX}2" -N swap-third
	refuse 'a name that leads out of the directory is refused' 'bad name|unknown' \
		nbd-client "$HOST4" "$PORT" "/dev/${PREFIX}2" -N swap-/../../out

	check 'swapoff' swapoff "/dev/${PREFIX}0"
	say full
	await measured
	check 'swapon discards what there was' swapon -donce "/dev/${PREFIX}0"
	say discarded
	await measured
	swap_off 0
	check 'disconnect the other' nbd-client -d "/dev/${PREFIX}1"
	say left
	await again
	attach 0 swap-guest
	check 'after its removal there is a new one, of zeroes' zeroes "/dev/${PREFIX}0"
	check 'disconnect' nbd-client -d "/dev/${PREFIX}0"
}

blocks() {
	stat -c %b "$WORK/swap.d/swap-guest.swap"
}

inode() {
	stat -c %i "$WORK/swap.d/swap-guest.swap"
}

# Another client, which tells no session, finds the name in use; libnbd keeps the sentence to itself
in_use() {
	_refused=$(grep -c 'in use by another client' "$WORK/server/swap/log") || :
	! ip netns exec "$NS" nbdinfo --size "nbd://$HOST4:$PORT/swap-guest" &&
		[ "$(grep -c 'in use by another client' "$WORK/server/swap/log")" -gt "$_refused" ]
}

host() {
	if ! hog_filling 50; then
		not_ok 'memhog swaps'
		return 0
	fi
	_inode=$(inode)
	_mode=$(stat -c '%a %s' "$WORK/swap.d/swap-guest.swap")
	check 'the file is the size promised, and for the server alone' \
		test "$_mode" = "600 $((1 << 30))"
	check 'it takes the space of what is in it' test $(($(blocks) * 512)) -lt $((1 << 29))
	check 'another client is refused' in_use
	for _i in 1 2 3; do
		server_kill swap
		sleep 3
		server_up swap
		check "swapping goes on after restart $_i" goes_on 10
		metric "recovery_${_i}_ms=$WENT_ON_MS"
	done
	check 'it is the same file' test "$(inode)" = "$_inode"
	check 'another client is refused still' in_use
	hog_verified
	hog_over

	report_wait '^say full' "$FROM" 120 || not_ok 'the guest is done with its swap'
	_full=$(blocks)
	metric "full_mb=$((_full / 2048))"
	vm_say 'go measured'
	report_wait '^say discarded' "$FROM" 60 || not_ok 'the guest discards'
	check 'the discarded space is the file system'"'"'s again' \
		until_true 10 sh -c "[ \$(stat -c %b '$WORK/swap.d/swap-guest.swap') -lt $((_full / 20)) ]"
	metric "discarded_mb=$(($(blocks) / 2048))"
	vm_say 'go measured'

	report_wait '^say left' "$FROM" 60 || not_ok 'the guest leaves'
	check 'the file is kept for its grace' test -e "$WORK/swap.d/swap-guest.swap"
	check 'and then removed, and so is the other' until_true $((15 + 10)) \
		sh -c "! ls '$WORK/swap.d' | grep -q swap"
	vm_say 'go again'
}
