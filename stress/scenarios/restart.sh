# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034,SC2154
desc='server killed and restarted 5 times while memhog swaps: nobody may notice'
drivers='nbswap mainline'
programs=memhog
timeout=300

# The reference driver does not survive: that is the negative control
if [ "${DRIVER:-}" = mainline ]; then
	may_die=y
	expect='.'
	rounds=1
else
	rounds=5
fi

prepare() {
	disk "$WORK/swap" 1G
	serve swap "$WORK/swap"
}

guest() {
	attach 0 swap -swap
	swap_on 0
	say swapping
	if memhog -n 4 -m $((MEM_MB * 3)) -t 120 -s $((60 * SLOW)); then
		ok 'every page comes back as it was written'
	else
		not_ok 'every page comes back as it was written'
	fi
	check 'swapoff' swapoff "/dev/${PREFIX}0"
	check 'disconnect' nbd-client -d "/dev/${PREFIX}0"
}

# Has memhog touched more pages than $1?
moved() {
	_p=$(live pages)
	[ "${_p:-0}" -gt "$1" ]
}

host() {
	report_wait '^say swapping' "$FROM" 60
	report_wait '^# live .*used_mb=1[0-9][0-9] ' "$FROM" 60 || {
		# The reference driver can lose its swap with nothing done to the server
		[ "$DRIVER" = mainline ] || not_ok '100 MB are in swap'
		note 'the server was not restarted'
		return 0
	}
	_worst=0
	for _i in $(seq "$rounds"); do
		server_kill swap
		_down=$((2 + (_i * 7) % 4))
		[ "$DRIVER" != mainline ] || _down=5
		sleep "$_down"
		_before=$(live pages)
		_t0=$(date +%s)
		server_up swap
		[ "$DRIVER" != mainline ] || break
		# 200 pages more than what was done when the server came back
		if until_true 30 moved $((_before + 200)); then
			_s=$(($(date +%s) - _t0))
			ok "progress after restart $_i, server down for $_down s"
			[ $_s -le $_worst ] || _worst=$_s
		else
			not_ok "progress after restart $_i, server down for $_down s"
			return 0
		fi
		sleep 4
	done
	[ "$DRIVER" = mainline ] || metric "slowest_recovery_s=$_worst"
}

after() {
	[ "$DRIVER" = mainline ] || return 0
	# What memhog says of itself is part of the finding, not a failure
	sed -i 's/^not ok every page/# mainline: not ok every page/; s/^ok \(every page\|swapoff\|disconnect\)/# mainline: ok \1/; s/^not ok \(swapoff\|disconnect\)/# mainline: not ok \1/' "$REPORT"
	_seen=
	for _what in 'I/O error' '-error on swap' 'Kernel panic' 'Out of memory'; do
		! console_has "$_what" || _seen="$_seen, $_what"
	done
	[ "$(live sigbus)" = 0 ] || _seen="$_seen, SIGBUS"
	if [ -n "$_seen" ]; then
		ok "mainline fails as expected: ${_seen#, }"
	else
		not_ok 'mainline fails as expected: it did not fail, so the scenario proves nothing'
	fi
}
