# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034,SC2154
desc='what make demo shows: swap at 3x RAM, the server killed and restarted in the middle'
programs=memhog
manual=y
OUTAGE=8

prepare() {
	disk "$WORK/swap" 1G
	serve swap "$WORK/swap"
}

guest() {
	attach 0 swap -swap
	swap_on 0
	note "event $MEM_MB MB of memory; filling $((MEM_MB * 3)) MB, every page checksummed"
	if memhog -n 4 -m $((MEM_MB * 3)) -t 60; then
		ok 'every page comes back as it was written'
	else
		not_ok 'every page comes back as it was written'
	fi
	check 'swapoff' swapoff "/dev/${PREFIX}0"
	check 'disconnect' nbd-client -d "/dev/${PREFIX}0"
}

moved() {
	_p=$(live pages)
	[ "${_p:-0}" -gt "$1" ]
}

host() {
	report_wait '^# live t=25 ' "$FROM" 90
	note 'event server killed (SIGKILL)'
	server_kill swap
	sleep $OUTAGE
	_before=$(live pages)
	note "event server started again after $OUTAGE s"
	_t0=$(date +%s)
	server_up swap
	check 'swapping goes on after the restart' until_true 20 moved $((_before + 200))
	metric "recovery_s=$(($(date +%s) - _t0))"
}
