# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034,SC2154
desc='swap with -dead-timeout against all advice: past it requests fail, the machine lives, and the device comes back'
programs=memhog
long=y
timeout=400
DEAD=10
mem=256
# What it must come to: errors, and somebody killed for a page that cannot be read
expect='-error on swap|I/O error|ut of memory|oom-kill|page allocation failure'

prepare() {
	disk "$WORK/swap" 1G
	serve swap "$WORK/swap"
}

# Only memhog swaps: were it init that lost a page, there would be nothing left to look at
guest() {
	mount -t cgroup2 cgroup2 /sys/fs/cgroup
	echo +memory > /sys/fs/cgroup/cgroup.subtree_control
	mkdir /sys/fs/cgroup/hog
	echo $((MEM_MB / 4))M > /sys/fs/cgroup/hog/memory.max
	attach 0 swap -swap -dead-timeout $DEAD
	swap_on 0
	say swapping
	(
		echo 0 > /sys/fs/cgroup/hog/cgroup.procs
		exec memhog -n 4 -m $((MEM_MB / 2)) -t 3600 -s $((120 * SLOW))
	) &
	_hog=$!
	await over
	kill -TERM $_hog 2> /dev/null || :
	wait $_hog || :
	metric "killed=$(sed -n 's/^oom_kill //p' /sys/fs/cgroup/hog/memory.events)"
	check 'the link is back' until_true 30 \
		sh -c 'nbd-client status nb0 --json | grep -q "\"state\": *\"ready\""'
	swapoff /dev/nb0 || note 'swapoff: a page could not be read'
	mkswap /dev/nb0 > /dev/null
	check 'the device serves again as if nothing had been' swapon /dev/nb0
	swap_off 0
}

host() {
	swapping 40 || not_ok 'memhog swaps'
	link_down
	_t0=$(now_ms)
	check 'requests fail' until_true $((DEAD + 60)) console_has 'error on swap|I/O error'
	_ms=$(($(now_ms) - _t0))
	metric "failed_after_ms=$_ms"
	check "not before $DEAD s are over" test $_ms -ge $(((DEAD - 1) * 1000))
	check 'nobody waits any longer: a program gets SIGBUS, or is killed for memory' until_true 60 hit
	link_up
	hog_over
}

hit() {
	console_has 'ut of memory' || [ "$(live sigbus)" -gt 0 ]
}

after() {
	pages_right bad_pages
}
