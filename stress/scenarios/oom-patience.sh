# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034,SC2154
desc='an outage longer than oom_patience: the OOM killer is held back so long, not longer'
programs=memhog
long=y
timeout=300
PATIENCE=20
params="oom_patience=$PATIENCE"
# That somebody is killed in the end is what is to be shown
expect='Out of memory|oom-kill|memhog: page allocation failure'

# One write that cannot finish, and no swap: with swap, whoever wants memory spends
# minutes asleep in reclaim before the kernel even thinks of killing somebody, and
# the driver would not be what held it back.
prepare() {
	disk "$WORK/swap" 64M
	serve swap "$WORK/swap"
}

guest() {
	attach 0 swap
	same 'the parameter is as given' "$(cat /sys/module/nbd/parameters/oom_patience)" $PATIENCE
	say connected
	await cut
	dd if=/dev/zero "of=/dev/${PREFIX}0" bs=4096 count=1 oflag=direct 2> /dev/null &
	_dd=$!
	sleep 1
	memhog -n 4 -m $((MEM_MB * 3 / 2)) -t 3600 -s $((150 * SLOW)) &
	_hog=$!
	await over
	kill -TERM $_hog 2> /dev/null || :
	wait $_hog || :
	check 'the write finishes after all' wait $_dd
	metric "oom_kills=$(vmstat oom_kill)"
	check 'disconnect' nbd-client -d "/dev/${PREFIX}0"
}

host() {
	report_wait '^say connected' "$FROM" 60
	link_down
	vm_say 'go cut'
	_t0=$(now_ms)
	_killed=
	! until_true $((PATIENCE + 60)) console_has 'Out of memory' || _killed=y
	_s=$((($(now_ms) - _t0) / 1000))
	metric "killed_after_s=$_s"
	check "nobody is killed before $PATIENCE s are over ($_s s)" test $_s -ge $((PATIENCE - 1))
	check 'somebody is killed when they are' test -n "$_killed"
	link_up
	sleep 10
	hog_over
}

after() {
	pages_right bad_pages sigbus
}
