# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC1090,SC2034,SC2154
#
# Scenarios: reading their files, grouping those that may share a boot, running
# the host's and the guest's part and judging what came of it.

BOOT_TIMEOUT=120
SILENCE=60

# scenario_load NAME: its variables and functions, over the defaults
scenario_load() {
	desc='' mem=128 boot=own timeout=180 modules='' kmods='' config='' symbols='' params='' programs=''
	drivers=nbswap servers='nbswap nbd-server nbdkit qemu-nbd' expect='' may_die='' start=run manual='' long='' relay='' sized='' uses=''
	prepare() { :; }
	host() { :; }
	after() { :; }
	. "$STRESS/scenarios/$1.sh"
}

scenario_names() {
	for _f in "$STRESS"/scenarios/*.sh; do
		basename "$_f" .sh
	done
}

scenario_list() {
	for _n in $(scenario_names); do
		(
			scenario_load "$_n"
			printf '%-16s %s\n' "$_n" "$desc"
		)
	done
}

# kernel_has OPTION: the kernel under test is configured with CONFIG_OPTION
kernel_has() {
	grep -qE "^CONFIG_$1=[ym]" "$kdir/.config" 2> /dev/null
}

# patched: the kernel under test has the network patches
patched() {
	grep -qs 'memalloc_net_features' "${kdir:-}/Module.symvers"
}

# scenario_unfit NAME: why it does not run with this driver, server and kernel;
# nothing if it does
scenario_unfit() {
	(
		scenario_load "$1"
		case " $drivers " in *" $DRIVER "*) ;; *) echo "not made for driver $DRIVER" && exit ;; esac
		case " $servers " in *" $SERVER "*) ;; *) echo "not made for server $SERVER" && exit ;; esac
		for _c in $config; do
			kernel_has "$_c" || {
				echo "kernel $release has no CONFIG_$_c: try --kernel debug-6.1" && exit
			}
		done
		for _c in $symbols; do
			grep -qsw "$_c" "${kdir:-}/Module.symvers" || {
				echo "kernel $release has no $_c(): try --kernel patched-6.12" && exit
			}
		done
	)
}

scenario_fits() {
	[ -z "$(scenario_unfit "$1")" ]
}

# Every scenario that fits, those that share a boot side by side
scenario_fitting() {
	for _want in shared own; do
		for _n in $(scenario_names); do
			scenario_fits "$_n" || continue
			(
				scenario_load "$_n"
				[ "$boot" = "$_want" ] && [ -z "$manual" ] || exit 0
				[ -n "$QUICK" ] && [ -n "$long" ] || echo "$_n"
			)
		done
	done
}

# console_has PATTERN: since the scenario began
console_has() {
	tail -c "+$((CONSOLE_FROM + 1))" "$VM_CONSOLE" | grep -qE -e "$1"
}

# Alarms of the kernel since the scenario began that it did not announce
console_verdict() {
	tail -c "+$((CONSOLE_FROM + 1))" "$VM_CONSOLE" | tr -d '\r' > "$RUN/slice"
	grep -nE -e "$ALARM" "$RUN/slice" > "$RUN/alarms" || :
	if [ -n "$expect" ]; then
		grep -vE -e "$expect" "$RUN/alarms" > "$RUN/alarms.new" || :
		mv "$RUN/alarms.new" "$RUN/alarms"
	fi
	if [ -s "$RUN/alarms" ]; then
		not_ok "the guest's kernel raises no alarm"
		head -n 12 "$RUN/alarms" | sed 's/^/#   console /' >> "$REPORT"
	else
		ok "the guest's kernel raises no alarm"
	fi
	rm -f "$RUN/slice" "$RUN/alarms"
}

# wait_end NAME FROM: until the guest part is over
wait_end() {
	_rc=0
	report_wait "^end $1 " "$2" "$timeout" || _rc=$?
	if [ $_rc = 0 ]; then
		_status=$(report_since "$2" | sed -n "s/^end $1 //p")
		[ "$_status" = 0 ] || not_ok "guest part ends early, with status $_status"
		return 0
	fi
	if vm_alive; then
		[ -n "$may_die" ] || vm_autopsy
		[ $_rc = 2 ] && _why="silent for $((SILENCE * SLOW)) s" || _why="not over after $((timeout * SLOW)) s"
		[ -n "$may_die" ] || not_ok "the guest answers: $_why"
		note "guest: $_why"
		vm_kill
		until_true 5 vm_dead || :
	elif [ -z "$may_die" ]; then
		not_ok "the guest lives: it died in the scenario"
	fi
	return 1
}

# run_one NAME: in the running guest
run_one() {
	FROM=$(report_size)
	# The first one answers for the loading of the modules, too
	CONSOLE_FROM=${CONSOLE_INIT:-$(stat -c %s "$VM_CONSOLE")}
	CONSOLE_INIT=
	_t0=$(date +%s)
	# In the background, so that a signal to this shell is acted on at once
	set +e
	(
		trap - EXIT INT TERM HUP
		set -e
		scenario_load "$1"
		prepare
		vm_say "$start $1"
		host
		! wait_end "$1" "$FROM" || [ -n "$may_die" ] || vm_alive || not_ok "the guest lives"
		after
		console_verdict
	) 2> "$RUN/host.err" &
	PART_PID=$!
	wait $PART_PID
	_rc=$?
	PART_PID=
	set -e
	[ $_rc = 0 ] || not_ok "host part ends early, with status $_rc"
	sed 's/^/# host: /' "$RUN/host.err" >> "$REPORT"
	rm -f "$RUN/host.err"
	servers_stop
	report_since "$FROM" | grep -qE '^(not )?ok ' || not_ok "the scenario checks anything"
	scenario_result "$1" "$(($(date +%s) - _t0))"
	report_since "$FROM" > "$RUN/slice.tap"
	print_tap "$1" < "$RUN/slice.tap"
	rm -f "$RUN/slice.tap"
}

# guest_mb MB: what a guest is given that a scenario wants MB for.  A debug kernel has
# 70 for itself (KASAN's shadow, lockdep's tables, more text, a larger reserve); since
# it pages slowly, a hundred pages a second, memhog gets no more than 160 beside that to
# fill, unless the scenario has measured out its loads for what it wants (sized=y).
guest_mb() {
	kernel_has KASAN || { echo "$1" && return; }
	case $GROUP_SIZED-$GROUP_PROGRAMS in
	-*memhog*) [ "$1" -le 160 ] || set -- 160 ;;
	esac
	echo $(($1 + 70))
}

# load_mb MB: what workloads take for the size of such a guest: on a debug kernel a quarter,
# for filling memory is most of what a run takes there, and twice that swaps all the same
load_mb() {
	kernel_has KASAN && echo $((($(guest_mb "$1") - 70) / 4)) || echo "$1"
}

# group_boot NAME...: one guest fit for all of them
group_boot() {
	_mods='' _par='' _uses='' GROUP_KMODS='' GROUP_PROGRAMS=''
	GROUP_MEM=0 GROUP_RELAY='' GROUP_SIZED=
	for _s in "$@"; do
		scenario_load "$_s"
		_mods="$_mods $modules"
		GROUP_PROGRAMS="$GROUP_PROGRAMS $programs"
		GROUP_KMODS="$GROUP_KMODS $kmods"
		_par=$params
		_uses="$_uses $uses"
		GROUP_RELAY=$GROUP_RELAY$relay
		GROUP_SIZED=$GROUP_SIZED$sized
		[ "$mem" -le "$GROUP_MEM" ] || GROUP_MEM=$mem
	done
	GROUP_MEM=${MEM:-$GROUP_MEM}
	BOOTS=$((${BOOTS:-0} + 1))
	REPORT=$RUN/report.log
	# shellcheck disable=SC2154 # $1 is a scenario's name
	_console=$RUN/console.log
	VM_START=$(date +%s)
	# shellcheck disable=SC2086 # a list of words
	initramfs "$RUN/initrd.cpio" "$_mods" "$_par" "$GROUP_PROGRAMS" "$@" $_uses
	vm_boot "$(guest_mb "$GROUP_MEM")" "$RUN/initrd.cpio" "$_console" || return
	CONSOLE_INIT=$(grep -abo 'Run /init as init process' "$_console" | tail -n 1 | cut -d: -f1)
}

# group_boot_patiently NAME...: boot again, with a remark, if the guest's kernel
# dies before it has loaded a driver.  Emulation now and then executes a piece of
# kernel text that another CPU is rewriting ("Oops: int3"): at boot, where the
# kernel does much of that, a guest in a dozen is lost to it on a busy host.
group_boot_patiently() {
	for _try in 1 2 3; do
		: >> "$RUN/console.log"
		_seen=$(wc -c < "$RUN/console.log")
		group_boot "$@" && return 0
		! tail -c +$((_seen + 1)) "$RUN/console.log" | grep -q 'nbd: loading' || return 1
		[ "$_try" != 3 ] || return 1
		note "the guest's kernel did not come up: $(tail -c +$((_seen + 1)) "$RUN/console.log" |
			grep -aE 'Oops|BUG|panic' | head -n 2 | tr '\r\n' '  '); booting again"
		vm_end
	done
}

# run_group NAME...: boot, run, and boot again for the rest if the guest is lost
run_group() {
	while [ $# -gt 0 ]; do
		: >> "$RUN/report.log"
		REPORT=$RUN/report.log
		FROM=$(report_size)
		if ! group_boot_patiently "$@"; then
			note "console: $(tail -n 3 "$RUN/console.log" | tr '\r\n' '  ')"
			not_ok "the guest boots within $((BOOT_TIMEOUT * SLOW)) s"
			report_since "$FROM" > "$RUN/slice.tap"
			print_tap "$1" < "$RUN/slice.tap"
			scenario_result "$1" $(($(date +%s) - VM_START))
			vm_end
			return 0
		fi
		while [ $# -gt 0 ] && vm_alive; do
			run_one "$1"
			shift
		done
		vm_quit
		vm_end
	done
}

# run_groups NAME...: neighbours with boot=shared and the same driver parameters
# share a guest
run_groups() {
	_group='' _group_params=''
	for _next in "$@"; do
		_unfit=$(scenario_unfit "$_next")
		if [ -n "$_unfit" ]; then
			NUMBER=$((NUMBER + 1))
			echo "ok $NUMBER - $_next # SKIP $_unfit"
			continue
		fi
		# Running a group loads other scenarios over these two
		scenario_load "$_next"
		_next_boot=$boot _next_params=$params
		if [ -n "$_group" ] && [ "$boot" = shared ] && [ "$params" = "$_group_params" ]; then
			_group="$_group $_next"
			continue
		fi
		# shellcheck disable=SC2086 # lists of words
		[ -z "$_group" ] || run_group $_group
		_group=''
		if [ "$_next_boot" = shared ]; then
			_group=$_next
			_group_params=$_next_params
		else
			run_group "$_next"
		fi
	done
	# shellcheck disable=SC2086 # a list of words
	[ -z "$_group" ] || run_group $_group
}
