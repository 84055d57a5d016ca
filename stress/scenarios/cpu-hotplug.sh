# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034,SC2154
desc='a CPU goes and comes back again and again, and the machine sleeps, under swap with restarts'
long=y
drivers='nbswap mainline'
programs=memhog
timeout=300
[ "${DRIVER:-}" != mainline ] || { may_die=y expect='.'; }

prepare() {
	disk "$WORK/swap" 1G
	serve swap "$WORK/swap"
}

cpu_1() {
	echo "$1" > /sys/devices/system/cpu/cpu1/online
}

# Until memhog ends: CPU 1 off and on; how often is in /tmp/turns.  While the
# machine goes to sleep the kernel refuses (EBUSY).
hotplug() {
	_turns=0
	echo 0 > /tmp/turns
	while [ ! -e /tmp/hog.end ]; do
		until_true 30 cpu_1 0
		sleep 0.5
		until_true 30 cpu_1 1
		sleep 0.5
		_turns=$((_turns + 1))
		echo $_turns > /tmp/turns
	done
}

# Freeze everybody, then suspend the devices too, each for 5 s, and back.  After the
# second a network card has no carrier for seconds, and one that finds packets in
# its ring then resets itself with memory it has to wait for (e1000e does): that
# nobody presses for memory until it is up is a condition of an unpatched kernel.
suspend_levels() {
	if [ ! -e /sys/power/pm_test ]; then
		note 'suspend: this kernel has no /sys/power/pm_test (PM_DEBUG is off): not tried'
		return 0
	fi
	for _level in freezer devices; do
		await "$_level"
		echo $_level > /sys/power/pm_test
		[ $_level != devices ] || killall -STOP memhog
		check "suspend as far as '$_level' and back" sh -c 'echo mem > /sys/power/state'
		echo none > /sys/power/pm_test
		if [ $_level = devices ]; then
			check 'the network is back after it' until_true 30 ping -c 1 -W 1 "$HOST4"
			killall -CONT memhog
		fi
		say "slept-$_level"
	done
}

guest() {
	attach 0 swap -swap
	swap_on 0
	[ ! -e /sys/power/pm_test ] || say sleeps
	say swapping
	hog_begin -n 4 -m $((MEM_MB * 2)) -s $((60 * SLOW))
	hotplug &
	_hotplug=$!
	suspend_levels
	hog_finish
	: > /tmp/hog.end
	wait $_hotplug
	metric "cpu_turns=$(cat /tmp/turns)"
	check 'the CPU went and came back at least 3 times' test "$(cat /tmp/turns)" -ge 3
	same 'it is back' "$(cat /sys/devices/system/cpu/online)" 0-1
	swap_off 0
}

# Packets that have come from the guest
sent() {
	ip -n "$NS" -s -j link show tap0 | jq '.[0].stats64.rx.packets'
}

# asleep LEVEL: with the server killed before and restarted in the middle
asleep() {
	report_since "$FROM" | grep -q '^say sleeps$' || return 0
	server_kill swap
	vm_say "go $1"
	sleep 3
	server_up swap
	if ! report_wait "^say slept-$1" "$FROM" 60; then
		not_ok "the guest is back from sleep as far as '$1'"
		_sent=$(sent)
		sleep 10
		note "its network card sends $(($(sent) - _sent)) packets in 10 s"
		return 0
	fi
	progress 30 "progress after sleep as far as '$1'"
}

disturb() {
	swapping
	for _i in 1 2; do
		sleep 4
		server_kill swap
		sleep 3
		server_up swap
		progress 30 "progress after restart $_i"
		! control_ends || return 0
		metric "recovery_${_i}_s=$RECOVERED"
	done
	asleep freezer
	asleep devices
}

host() {
	disturb
	if mainline; then hog_over; else hog_enough; fi
}

after() {
	control_verdict must
}
