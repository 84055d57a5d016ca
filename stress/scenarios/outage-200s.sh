# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034,SC2154
desc='the cable out for 200 s with memory full: nobody is killed, all goes on'
drivers='nbswap mainline'
programs=memhog
long=y
OUTAGE=200

timeout=$((OUTAGE + 300))
# Whoever wants a page that is away can only wait, and the kernel tells that it does
expect='blocked for more than|hung task reports'
if [ "${DRIVER:-}" = mainline ]; then
	may_die=y
	expect='.'
fi

prepare() {
	disk "$WORK/swap" 1G
	serve swap "$WORK/swap"
}

guest() {
	swap_hog -n 4 -m $((MEM_MB * 3)) -t 36000 -s $((OUTAGE + 300))
}

host() {
	hog_filling 40 || return 0
	link_down
	outage $OUTAGE 'meanwhile'
	link_up
	hog_recovers 10
}

after() {
	control_verdict may "$(stalled)"
}
